// Where did tokens go?
import { useLoad } from '../api';
import { count, exact, moment, percent } from '../format';
import { change, link, type Route } from '../route';
import { Copy, Empty, Panel, Table, Trouble, Waiting } from '../ui';

interface Row {
  name: string | null; requests: number; failed: number; input_tokens: number; cached_tokens: number; output_tokens: number;
  reasoning_tokens: number; estimated: number;
}
interface Used { by: string; since_unix_ms: number; total: Row; rows: Row[]; others: number }

const GROUPS = ['model', 'key', 'backend'] as const;

export function Usage({ route }: { route: Route }) {
  const by = GROUPS.find((group) => group === route.params.get('by')) ?? 'model';
  const used = useLoad<Used>(`/usage?by=${by}`, 5);
  const data = used.data;
  const all = data ? data.total.input_tokens + data.total.output_tokens : 0;
  const name = (row: Row) => row.name ?? 'unattributed';
  return (
    <div class="main">
      <div class="filters">
        <span class="segment" role="group" aria-label="Group by">
          {GROUPS.map((group) => <button type="button" key={group} aria-pressed={group === by} onClick={() => change({ by: group })}>By {group}</button>)}
        </span>
        {data ? <span class="quiet">since the process started, {moment(data.since_unix_ms)}</span> : null}
        {data ? <><button type="button" class="small" onClick={() => save(data)}>CSV</button><Copy label="Copy as curl" text={`curl ${location.origin}/api/v1/usage?by=${by}`} /></> : null}
      </div>
      {data ? (
        <div class="tiles five" role="group" aria-label="Totals">
          {([['Requests', exact(data.total.requests), `${exact(data.total.failed)} failed`],
            ['Input tokens', count(data.total.input_tokens), exact(data.total.input_tokens)],
            ['Cached input', percent(data.total.input_tokens ? data.total.cached_tokens / data.total.input_tokens : null), `${exact(data.total.cached_tokens)} tokens`],
            ['Output tokens', count(data.total.output_tokens), exact(data.total.output_tokens)],
            ['Estimated', exact(data.total.estimated), 'requests counted by the gateway']] as const).map(([title, value, under]) => (
            <div class="tile" key={title}><h3>{title}</h3><b>{value}</b><small>{under}</small></div>
          ))}
        </div>
      ) : null}
      <Panel title={`Usage by ${by}`} source={used.at}>
        <Trouble loaded={used} /><Waiting loaded={used} />
        {data && data.rows.length === 0 ? <Empty>Nothing was used yet.</Empty> : null}
        {data && data.rows.length ? (
          <Table rows={data.rows} id={name} caption={`Usage by ${by}`} columns={[
            { name: by[0]!.toUpperCase() + by.slice(1), cell: (row) => row.name ?? <span class="unknown">unattributed</span>, sort: name, grow: true },
            {
              name: 'Share', hint: 'of all tokens', sort: (row) => row.input_tokens + row.output_tokens, minor: true,
              cell: (row) => { const part = all ? (row.input_tokens + row.output_tokens) / all : 0; return <span class="bar-with"><span class="bar" role="img" aria-label={percent(part)}><span style={{ width: `${part * 100}%` }} /></span><span class="num">{percent(part)}</span></span>; },
            },
            { name: 'Requests', cell: (row) => row.name ? <a href={link('requests', { [by]: row.name })}>{exact(row.requests)}</a> : exact(row.requests), sort: (row) => row.requests, num: true },
            { name: 'Failed', cell: (row) => exact(row.failed), sort: (row) => row.failed, num: true, minor: true },
            { name: 'Input', cell: (row) => exact(row.input_tokens), sort: (row) => row.input_tokens, num: true, minor: true },
            { name: 'Cached', cell: (row) => exact(row.cached_tokens), sort: (row) => row.cached_tokens, num: true, minor: true },
            { name: 'Output', cell: (row) => exact(row.output_tokens), sort: (row) => row.output_tokens, num: true },
            { name: 'Reasoning', cell: (row) => exact(row.reasoning_tokens), sort: (row) => row.reasoning_tokens, num: true, minor: true, wide: true },
          ]} />
        ) : null}
      </Panel>
    </div>
  );
}

/** What the table shows, for a spreadsheet. A name that a spreadsheet would take for a formula is text. */
function save(used: Used) {
  const quote = (value: string | number | null) => {
    const text = String(value ?? '');
    const safe = /^[=+\-@\t\r]/.test(text) && typeof value === 'string' ? `'${text}` : text;
    return `"${safe.replace(/"/g, '""')}"`;
  };
  const names = ['requests', 'failed', 'input_tokens', 'cached_tokens', 'output_tokens', 'reasoning_tokens', 'estimated'] as const;
  const lines = [[used.by, ...names].join(','), ...used.rows.map((row) => [quote(row.name), ...names.map((name) => row[name])].join(','))];
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([`${lines.join('\r\n')}\r\n`], { type: 'text/csv' }));
  link.download = `usage-by-${used.by}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Where did tokens go? From the ledger; without one, from the counters of the running process.
import { useLoad } from '../api';
import { hue, Legend, Plot } from '../charts';
import { clock, count, exact, moment, percent } from '../format';
import { change, link, type Route } from '../route';
import { Copy, Empty, Panel, Table, Trouble, Waiting } from '../ui';

interface Row {
  name: string; requests: number; failures: number; input_tokens: number; cached_tokens: number; output_tokens: number;
  reasoning_tokens: number; estimated: number; uncounted: number;
}
interface LedgerRow extends Omit<Row, 'name'> { group: string; model: string; backend: string }
interface Counters {
  since_unix_ms: number;
  rows: (Omit<Row, 'name' | 'failures' | 'uncounted'> & { name: string | null; failed: number })[];
}

const GROUPS = ['key', 'team', 'model', 'backend', 'user', 'api'] as const;
const RANGES = { '1h': [3600, '1 hour', 'hour'], '24h': [86_400, '24 hours', 'hour'], '7d': [7 * 86_400, '7 days', 'hour'], '30d': [30 * 86_400, '30 days', 'day'] } as const;
type Range = keyof typeof RANGES;
const SUMS = ['requests', 'failures', 'input_tokens', 'cached_tokens', 'output_tokens', 'reasoning_tokens', 'estimated', 'uncounted'] as const;

export function Usage({ route }: { route: Route }) {
  const by = GROUPS.find((group) => group === route.params.get('by')) ?? 'key';
  const asked = route.params.get('range') as Range;
  const range: Range = asked in RANGES ? asked : '24h';
  const [seconds, , bucket] = RANGES[range];
  // To the minute, so that the same question stays the same address for a while.
  const since = (Math.floor(Date.now() / 60_000) * 60 - seconds) * 1000;
  const only = ['key', 'team', 'model', 'backend', 'user'].map((name) => [name, route.params.get(name)] as const).filter(([, value]) => value) as [string, string][];
  const filter = only.map(([name, value]) => `&${name}=${encodeURIComponent(value)}`).join('');
  const ledger = useLoad<{ rows: LedgerRow[] }>(`/ledger/usage?by=${by}&since=${since}${filter}`, 10);
  const buckets = useLoad<{ rows: LedgerRow[] }>(`/ledger/usage?by=${bucket}&since=${since}${filter}`, 10);
  const off = ledger.error?.status === 404;
  const fallback = by === 'key' || by === 'model' || by === 'backend' ? by : 'key';
  const counters = useLoad<Counters>(off ? `/usage?by=${fallback}` : null, 5);
  const rows = off
    ? counters.data?.rows.map((row) => ({ ...row, name: row.name ?? '', failures: row.failed, uncounted: 0 }))
    : ledger.data && grouped(ledger.data.rows);
  const total = rows?.reduce((sum, row) => { for (const name of SUMS) sum[name] += row[name]; return sum; }, zero('')) ?? null;
  const all = total ? total.input_tokens + total.output_tokens : 0;
  return (
    <div class="main">
      <div class="filters">
        <span class="segment" role="group" aria-label="Group by">
          {GROUPS.map((group) => <button type="button" key={group} aria-pressed={group === by} disabled={off && !['key', 'model', 'backend'].includes(group)} onClick={() => change({ by: group })}>{group === 'api' ? 'API' : group}</button>)}
        </span>
        {off ? null : (
          <span class="segment" role="group" aria-label="Time">
            {(Object.keys(RANGES) as Range[]).map((id) => <button type="button" key={id} aria-pressed={id === range} onClick={() => change({ range: id })}>{RANGES[id][1]}</button>)}
          </span>
        )}
        {only.map(([name, value]) => (
          <button type="button" class="chip" key={name} aria-label={`Remove the filter ${name} ${value}`} onClick={() => change({ [name]: null })}><span>{name}:</span>{value} ×</button>
        ))}
        {rows ? <button type="button" class="small" onClick={() => save(by, rows)}>CSV</button> : null}
        <Copy label="Copy as command" text={`ringway usage --by ${by}${off ? '' : ` --since ${range}`}${only.filter(([name]) => name !== 'user').map(([name, value]) => ` --${name} ${value}`).join('')}`} />
      </div>
      {off ? <p class="trouble quiet-trouble" role="status">No ledger: {ledger.error!.message}. Shown is what was counted since the process started{counters.data ? `, ${moment(counters.data.since_unix_ms)}` : ''}.</p> : null}
      {total ? (
        <div class="tiles five" role="group" aria-label="Totals">
          {([['Requests', exact(total.requests), `${exact(total.failures)} failed or refused`],
            ['Input tokens', count(total.input_tokens), exact(total.input_tokens)],
            ['Cached input', percent(total.input_tokens ? total.cached_tokens / total.input_tokens : null), `${exact(total.cached_tokens)} tokens`],
            ['Output tokens', count(total.output_tokens), exact(total.output_tokens)],
            ['Not counted by backends', exact(total.estimated + total.uncounted), `${exact(total.estimated)} estimated, ${exact(total.uncounted)} unknown`]] as const).map(([title, value, under]) => (
            <div class="tile" key={title}><span class="name">{title}</span><b>{value}</b><small>{under}</small></div>
          ))}
        </div>
      ) : null}
      {off ? null : <Time rows={buckets.data ? grouped(buckets.data.rows) : []} at={buckets.at} since={since} step={bucket === 'hour' ? 3600 : 86_400} />}
      <Panel title={`Usage by ${by === 'api' ? 'API' : off ? fallback : by}`} source={off ? counters.at : ledger.at}>
        {off ? <Trouble loaded={counters} /> : <><Trouble loaded={ledger} /><Waiting loaded={ledger} /></>}
        {rows && rows.length === 0 ? <Empty>Nothing was used in this time.</Empty> : null}
        {rows?.length ? (
          <Table rows={rows} id={(row) => row.name} caption={`Usage by ${by}`} initial={[6, -1]} columns={[
            { name: by === 'api' ? 'API' : by[0]!.toUpperCase() + by.slice(1), cell: (row) => row.name || <span class="unknown">unattributed</span>, sort: (row) => row.name, grow: true },
            {
              name: 'Share', hint: 'of all tokens', sort: (row) => row.input_tokens + row.output_tokens, minor: true,
              cell: (row) => { const part = all ? (row.input_tokens + row.output_tokens) / all : 0; return <span class="bar-with"><span class="bar" role="img" aria-label={percent(part)}><span style={{ width: `${part * 100}%` }} /></span><span class="num">{percent(part)}</span></span>; },
            },
            { name: 'Requests', cell: (row) => row.name && ['key', 'model', 'backend'].includes(by) ? <a href={link('requests', { [by]: row.name })}>{exact(row.requests)}</a> : exact(row.requests), sort: (row) => row.requests, num: true },
            { name: 'Failed', cell: (row) => exact(row.failures), sort: (row) => row.failures, num: true, minor: true },
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

const zero = (name: string): Row => ({ name, requests: 0, failures: 0, input_tokens: 0, cached_tokens: 0, output_tokens: 0, reasoning_tokens: 0, estimated: 0, uncounted: 0 });

/** The ledger has a row for each model and backend of a group. */
function grouped(rows: LedgerRow[]): Row[] {
  const groups = new Map<string, Row>();
  for (const row of rows) {
    const sum = groups.get(row.group) ?? zero(row.group);
    for (const name of SUMS) sum[name] += row[name];
    groups.set(row.group, sum);
  }
  return [...groups.values()];
}

/** Tokens over time; an hour without any is a zero, since the ledger knows it. */
function Time({ rows, at, since, step }: { rows: Row[]; at: number; since: number; step: number }) {
  const found = new Map(rows.map((row) => [Number(row.name) / 1000, row]));
  const times: number[] = [];
  for (let time = Math.floor(since / 1000 / step) * step; time * 1000 <= Date.now(); time += step) times.push(time);
  const lines = ([['input', 'input_tokens'], ['output', 'output_tokens']] as const).map(([name, member], index) =>
    ({ name, color: hue(index), values: times.map((time) => found.get(time)?.[member] ?? 0) }));
  return (
    <Panel title={step === 3600 ? 'Tokens per hour' : 'Tokens per day'} source={at} aside={<Legend lines={lines} />}>
      <Plot key={step} at={times} lines={lines} stacked bars height={140} fixed={false} axis={(time) => (step === 3600 && times.length <= 26 ? clock(time * 1000).slice(0, 5) : moment(time * 1000).slice(5, 10))}
        summary={`Tokens per ${step === 3600 ? 'hour' : 'day'}: input and output`} />
    </Panel>
  );
}

/** What the table shows, for a spreadsheet. A name that a spreadsheet would take for a formula is text. */
function save(by: string, rows: Row[]) {
  const quote = (text: string) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replace(/"/g, '""')}"`;
  const lines = [[by, ...SUMS].join(','), ...rows.map((row) => [quote(row.name), ...SUMS.map((name) => row[name])].join(','))];
  const anchor = document.createElement('a');
  anchor.href = URL.createObjectURL(new Blob([`${lines.join('\r\n')}\r\n`], { type: 'text/csv' }));
  anchor.download = `usage-by-${by}.csv`;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
}

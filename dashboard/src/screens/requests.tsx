// What happened to this one?
import { useEffect, useRef, useState } from 'preact/hooks';
import { call, useLive, useLoad, type Refused } from '../api';
import { css, hue, Legend, Plot } from '../charts';
import { bytes, clock, DASH, exact, moment, rate, time, words } from '../format';
import { change, link, type Route } from '../route';
import type { Row, RowDetail } from '../types';
import { Copy, Drawer, Empty, Facts, Icon, Lamp, Panel, Status, Table, Tokens, Trouble } from '../ui';

const FILTERS = ['status', 'key', 'model', 'backend', 'reason', 'api', 'id'];
const DRAWN_PER_SECOND = 20;

export function Requests({ route }: { route: Route }) {
  const filters = FILTERS.map((name) => [name, route.params.get(name)] as const).filter(([, value]) => value);
  const query = new URLSearchParams(filters as [string, string][]).toString();
  const open = route.params.get('open');
  const [tail, setTail] = useState(true);
  const { rows, next, older, waiting, error, again } = useRows(query, tail && !open);
  const { seconds, more } = useLive();
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.key === 't' && !(event.target as Element).closest('input,textarea,select')) setTail((now) => !now);
    };
    window.addEventListener('keydown', key);
    return () => window.removeEventListener('keydown', key);
  }, []);
  const sides = [
    { name: 'refused', color: css('--warn-mark'), values: seconds.map((second) => second.refused + second.client_errors) },
    { name: 'failed', color: css('--bad'), values: seconds.map((second) => second.backend_errors + second.gateway_errors) },
  ];
  const good = seconds.map((second, index) => Math.max(0, second.requests - sides[0]!.values[index]! - sides[1]!.values[index]!));
  const lines = [{ name: 'served', color: hue(0), values: good }, ...sides];
  return (
    <div class={`with-drawer ${open ? 'opened' : ''}`}>
      <div class="main">
        <Filters filters={filters} />
        <Panel title="Requests per second" source="live" aside={<Legend lines={lines} />}>
          <Plot at={seconds.map((second) => second.at)} lines={lines} stacked height={96} unit={rate} summary="Requests per second by outcome, last 15 minutes" />
        </Panel>
        <Panel title="Requests" aside={
          <>
            <label class="check"><input type="checkbox" checked={tail} onChange={() => setTail(!tail)} /> Tail</label>
            {tail && !open && more > DRAWN_PER_SECOND ? <span class="quiet">{exact(more)} more in the last second, counted only</span> : null}
            {waiting > 0 ? <button type="button" class="small" onClick={again}>{waiting} new</button> : null}
          </>
        }>
          {error ? <p class="trouble" role="alert">{error.message} <button type="button" class="link" onClick={again}>Retry</button></p> : null}
          {rows === null ? <p class="waiting">Loading…</p> : rows.length === 0 ? <Empty>
            {filters.length ? <>No recent request has {filters.map(([name, value]) => `${name} ${value}`).join(' and ')}. Drop a filter above.</> : 'No requests yet.'}
          </Empty> : <Rows rows={rows} open={open} />}
          {next ? <button type="button" class="wide-button" onClick={older}>Older</button> : rows?.length ? <p class="quiet end">The gateway keeps the newest thousand requests and the newest thousand failures here; <code>ringway requests</code> reads older ones from the ledger.</p> : null}
        </Panel>
      </div>
      {open ? <Detail id={open} /> : null}
    </div>
  );
}

/** The rows of a filter; new ones come on top while tailing, and are counted while not. */
function useRows(query: string, tail: boolean) {
  const [rows, set] = useState<Row[] | null>(null);
  const [next, setNext] = useState<number | null>(null);
  const [waiting, wait] = useState(0);
  const [error, fail] = useState<Refused | null>(null);
  const [round, setRound] = useState(0);
  const newest = useRef(0);
  useEffect(() => {
    let gone = false;
    let timer = 0;
    const load = async (first: boolean) => {
      try {
        const found = await call<{ requests: Row[]; next: number | null }>(`/requests?${query}`);
        if (gone) return;
        fail(null);
        const fresh = found.requests.filter((row) => row.number > newest.current).length;
        if (first || tail) {
          newest.current = Math.max(0, ...found.requests.map((row) => row.number));
          set((was) => {
            if (first || !was) return found.requests;
            const known = new Set(found.requests.map((row) => row.number));
            return [...found.requests, ...was.filter((row) => !known.has(row.number))].slice(0, 300);
          });
          if (first) setNext(found.next);
          wait(0);
        } else wait(fresh);
      } catch (reason) { if (!gone) fail(reason as Refused); }
      if (!gone) timer = window.setTimeout(() => load(false), document.hidden ? 10_000 : 1500);
    };
    load(true);
    return () => { gone = true; clearTimeout(timer); };
  }, [query, tail, round]);
  const older = async () => {
    if (!next) return;
    const found = await call<{ requests: Row[]; next: number | null }>(`/requests?${query}&before=${next}`);
    set((was) => [...(was ?? []), ...found.requests]);
    setNext(found.next);
  };
  return { rows, next, older, waiting, error, again: () => setRound((now) => now + 1) };
}

/** `key:ci-* status:failed`: typed, shown as chips, kept in the address. */
function Filters({ filters }: { filters: (readonly [string, string | null])[] }) {
  const [text, type] = useState('');
  const [wrong, complain] = useState('');
  const add = (event: Event) => {
    event.preventDefault();
    const parts = text.trim().split(/\s+/).filter(Boolean);
    const found: Record<string, string> = {};
    for (const part of parts) {
      const at = part.indexOf(':');
      const name = at < 0 ? (/^\d/.test(part) && part.length === 3 ? 'status' : 'id') : part.slice(0, at);
      const value = at < 0 ? part : part.slice(at + 1);
      if (!FILTERS.includes(name) || !value) { complain(`${part}: expected ${FILTERS.join(', ')}, as in status:429`); return; }
      found[name] = value;
    }
    complain('');
    type('');
    change(found);
  };
  const offers = FILTERS.flatMap((name) => name === 'status' ? ['status:failed', 'status:429', 'status:5xx'] : [`${name}:`]);
  return (
    <form class="filters" onSubmit={add} role="search" aria-label="Filter requests">
      {filters.map(([name, value]) => (
        <button type="button" class="chip" key={name} onClick={() => change({ [name]: null })} aria-label={`Remove the filter ${name} ${value}`}>
          <span>{name}:</span>{value}<Icon name="close" size={12} />
        </button>
      ))}
      <input list="filter-names" value={text} placeholder="key:ci-*  model:llama*  status:failed  or a request id" aria-label="Add a filter"
        data-filter onInput={(event) => type(event.currentTarget.value)}
        onKeyDown={(event) => { if (event.key === 'Backspace' && !text && filters.length) change({ [filters.at(-1)![0]]: null }); }} />
      <datalist id="filter-names">{offers.map((offer) => <option key={offer} value={offer} />)}</datalist>
      {['failed', '429'].filter((status) => !filters.some(([name]) => name === 'status') && status).map((status) =>
        <button type="button" class="small" key={status} onClick={() => change({ status })}>status:{status}</button>)}
      {wrong ? <p class="trouble" role="alert">{wrong}</p> : null}
    </form>
  );
}

const Filter = ({ name, value }: { name: string; value: string | null }) =>
  value === null ? <>{DASH}</> : (
    <button type="button" class="label" title={`Only ${name} ${value}; with Shift: all others`}
      onClick={(event) => change({ [name]: event.shiftKey ? `!${value}` : value })}>{value}</button>
  );

function Rows({ rows, open }: { rows: Row[]; open: string | null }) {
  return (
    <Table rows={rows} id={(row) => String(row.number)} caption="Requests, newest first" open={open}
      onOpen={(row) => change({ open: String(row.number) })} columns={[
        { name: 'Time', cell: (row) => clock(row.at_unix_ms), tight: true },
        { name: 'Status', cell: (row) => <Status {...row} />, grow: true },
        { name: 'Key', cell: (row) => <Filter name="key" value={row.key} />, minor: true },
        { name: 'Model', cell: (row) => <Filter name="model" value={row.model} /> },
        { name: 'Backend', cell: (row) => <Filter name="backend" value={row.backend} />, minor: true },
        { name: 'TTFT', cell: (row) => time(row.ttft), num: true, minor: true },
        { name: 'Duration', cell: (row) => time(row.duration), num: true, minor: true },
        { name: 'Tokens', hint: 'input (of it cached) → output', cell: (row) => <Tokens input={row.input_tokens} cached={row.cached_tokens} output={row.output_tokens} estimated={row.estimated} />, num: true, minor: true },
        { name: 'Tries', hint: 'backends tried', cell: (row) => row.attempts || DASH, num: true, minor: true, wide: true },
      ]} />
  );
}

function Detail({ id }: { id: string }) {
  const found = useLoad<RowDetail>(`/requests/${encodeURIComponent(id)}`);
  const row = found.data;
  return (
    <Drawer kind="Request" title={row ? row.id : id} onClose={() => change({ open: null })}>
      <Trouble loaded={found} />
      {row ? (
        <>
          <p class="headline">
            <Lamp state={row.status < 400 && !row.reason ? 'ok' : row.side === 'client' ? 'degraded' : 'down'} label={`${row.status} ${row.reason ? words(row.reason) : 'served'}`} />
            <span class="quiet"> {moment(row.at_unix_ms)}</span>
          </p>
          {row.explain ? (
            <div class="explain">
              <p><b>{row.explain.what}</b></p>
              <p>{row.explain.fix}</p>
            </div>
          ) : null}
          <Waterfall row={row} />
          <Facts rows={[
            ['Request id', <><code>{row.id}</code> <Copy text={row.id} /></>],
            ['Key', row.key ? <a href={link('keys', { open: row.key })}>{row.key}</a> : DASH],
            ['Model', row.model ? <>{row.model}{row.fallback_for ? <small> in place of {row.fallback_for}</small> : null}</> : DASH],
            ['Backend', row.backend ? <a href={link('backends', { open: row.backend })}>{row.backend}</a> : 'none was called'],
            ['API', `${row.api}${row.stream ? ', streamed' : ''}`],
            ['Backends tried', row.attempts],
            ['Failed by', row.side ? { client: 'the client, or a rule for it', backend: 'the backend', gateway: 'the gateway' }[row.side] : null],
            ['Input tokens', row.input_tokens === null ? 'not reported' : `${exact(row.input_tokens)}${row.cached_tokens ? `, ${exact(row.cached_tokens)} of them cached` : ''}`],
            ['Output tokens', row.output_tokens === null ? 'not reported' : `${exact(row.output_tokens)}${row.reasoning_tokens ? `, ${exact(row.reasoning_tokens)} of them reasoning` : ''}`],
            ['Counted by', row.input_tokens === null ? null : row.estimated ? 'the gateway, estimated' : 'the backend'],
            ['Bytes in / out', `${bytes(row.request_bytes)} / ${bytes(row.response_bytes)}`],
            ['Client address', row.client],
            ['Shard', row.shard],
          ]} />
        </>
      ) : null}
    </Drawer>
  );
}

/** Where the time went. */
function Waterfall({ row }: { row: RowDetail }) {
  const total = Math.max(row.duration, 1e-6);
  const first = row.ttft ?? (row.stream ? null : row.duration);
  const parts: [string, number, number, string][] = [['gateway', 0, row.overhead, 'own']];
  if (first !== null && row.backend) parts.push([row.stream ? 'to the first token' : 'backend', row.overhead, Math.max(0, first - row.overhead), 'wait']);
  if (row.ttft !== null && row.stream) parts.push(['stream', row.ttft, Math.max(0, row.duration - row.ttft), 'stream']);
  return (
    <div class="waterfall" role="img" aria-label={`Time: ${parts.map(([name, , length]) => `${name} ${time(length)}`).join(', ')}, ${time(row.duration)} in all`}>
      {parts.map(([name, from, length, kind]) => (
        <div key={name}>
          <span class="name">{name}</span>
          <span class="lane"><span class={kind} style={{ marginLeft: `${(from / total) * 100}%`, width: `max(2px, ${(length / total) * 100}%)` }} /></span>
          <span class="num">{time(length)}</span>
        </div>
      ))}
      <div><span class="name">in all</span><span class="lane" /><span class="num"><b>{time(row.duration)}</b></span></div>
    </div>
  );
}

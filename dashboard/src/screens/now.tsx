// Is it fine? If not, who is hurt and whose fault is it?
import { useEffect, useState } from 'preact/hooks';
import { useLive } from '../api';
import { aligned, HeatMap, hue, Legend, Plot, stepTimes, css } from '../charts';
import { clock, count, DASH, percent, rate, span, time } from '../format';
import { go, link } from '../route';
import type { Backend, Model, Overview, Second } from '../types';
import { Bar, Code, Copy, Empty, Lamp, limitName, Panel, Spark, Status, Table, Ttft } from '../ui';

export function Now({ clientUrl }: { clientUrl: string | null }) {
  const { overview, seconds, history, rows } = useLive();
  if (!overview || !history) return <p class="waiting">Waiting for the first reading…</p>;
  if (overview.totals.requests === 0) return <First overview={overview} clientUrl={clientUrl} />;
  return (
    <div class="now">
      <Sentence overview={overview} />
      <Tiles overview={overview} seconds={seconds} />
      <div class="pair">
        <Panel title="Time to first token" source="live" aside={
          <Legend lines={[
            { name: 'p50', color: css('--ink'), value: time(overview.ttft_p50) },
            { name: 'p99', color: css('--bad'), value: time(overview.ttft_p99) },
          ]} />
        }>
          <HeatMap history={history} seconds={seconds} height={150} />
        </Panel>
        <Traffic />
      </div>
      <div class="pair tables">
        <div class="stack">
          <Panel title="Backends" source="live" aside={
            <a href={link('backends')}>{overview.counts.backends_ok} of {overview.counts.backends} in service</a>
          }>
            <BackendTable backends={overview.backends.slice(0, 8)} />
          </Panel>
          <Panel title="Models" source="live" aside={<a href={link('backends')}>{overview.counts.models}</a>}>
            <ModelTable models={overview.models.slice(0, 8)} />
          </Panel>
        </div>
        <div class="stack">
          <Near overview={overview} />
          <Failures rows={rows} />
        </div>
      </div>
    </div>
  );
}

function Sentence({ overview }: { overview: Overview }) {
  const since = overview.state === 'ok' ? '' : ` since ${clock(overview.since_unix_ms)}`;
  const word = { ok: 'OK', degraded: 'Degraded', down: 'Down', starting: 'Starting', draining: 'Shutting down' }[overview.state];
  return (
    <p class={`sentence ${overview.state}`}>
      <Lamp state={overview.state} label={`${word}${since}`} /> <span>{overview.sentence}</span>
    </p>
  );
}

function Tiles({ overview, seconds }: { overview: Overview; seconds: Second[] }) {
  const minute = seconds.slice(-60);
  const of = (name: keyof Second) => minute.map((second) => second[name]);
  const errors = minute.map((second) => second.backend_errors + second.gateway_errors);
  const tiles: [string, string, string, (number | null)[], string?][] = [
    ['Requests', rate(overview.requests_per_second), 'per second', of('requests')],
    ['Tokens out', count(overview.output_tokens_per_second), `per second; in ${count(overview.input_tokens_per_second)}`, of('output_tokens')],
    ['First token', time(overview.ttft_p50), `p50; p99 ${time(overview.ttft_p99)}`, of('ttft_p99')],
    ['Errors', percent(overview.error_share), 'backends and gateway', errors, overview.error_share ? 'bad' : ''],
    ['Refused', percent(overview.refused_share), 'by limits and permissions', of('refused'), overview.refused_share ? 'warn' : ''],
    ['In flight', count(overview.in_flight), overview.queued ? `${overview.queued} waiting` : `${count(overview.connections)} connections`, of('in_flight')],
  ];
  return (
    <div class="tiles" role="group" aria-label={`Rates of the last ${overview.window_seconds} seconds`}>
      {tiles.map(([name, value, under, values, level]) => (
        <div class={`tile ${level ?? ''}`} key={name}>
          <span class="name">{name}</span>
          <b>{value}</b>
          <Spark values={values} label={`${name}, last 60 seconds`} />
          <small>{under}</small>
        </div>
      ))}
    </div>
  );
}

function Traffic() {
  const { history, seconds } = useLive();
  const [what, set] = useState<'models' | 'errors'>('models');
  if (!history) return null;
  const at = stepTimes(history);
  const errors = [
    { name: 'refused', color: css('--warn-mark'), key: 'refused' as const },
    { name: 'client', color: hue(0), key: 'client_errors' as const },
    { name: 'backend', color: css('--bad'), key: 'backend_errors' as const },
    { name: 'gateway', color: hue(3), key: 'gateway_errors' as const },
  ];
  const lines = what === 'models'
    ? history.models.map((series, index) => ({ name: series.name, color: hue(index), values: aligned(series, at.length) }))
    : errors.map(({ name, color, key }) => ({ name, color, values: seconds.map((second) => second[key]) }));
  const legend = lines.map((line) => ({ name: line.name, color: line.color, value: rate(line.values.at(-1) ?? null) }));
  return (
    <Panel title={what === 'models' ? 'Requests by model' : 'Failures by side'} source="live" aside={
      <>
        <span class="segment" role="group" aria-label="What is shown">
          <button type="button" aria-pressed={what === 'models'} onClick={() => set('models')}>Models</button>
          <button type="button" aria-pressed={what === 'errors'} onClick={() => set('errors')}>Failures</button>
        </span>
      </>
    }>
      <Plot key={what} at={what === 'models' ? at : seconds.map((second) => second.at)} lines={lines} stacked={what === 'models'} height={128}
        unit={rate} summary={`${what === 'models' ? 'Requests per second by model' : 'Failures per second by side'}, last 15 minutes: ${legend.map((line) => `${line.name} ${line.value}`).join(', ')}`} />
      <Legend lines={legend} />
    </Panel>
  );
}

export function BackendTable({ backends, open }: { backends: Backend[]; open?: string | null }) {
  return (
    <Table rows={backends} id={(row) => row.name} caption="Backends" open={open} onOpen={(row) => go('backends', { open: row.name })}
      columns={[
        { name: 'Backend', cell: (row) => <Lamp state={row.state} label={row.name} />, sort: (row) => row.name, grow: true },
        {
          name: 'State', cell: (row) => row.state === 'ok' ? <span class="quiet">ok</span> : <span class="why" title={row.why ?? ''}>{row.state}{row.why ? `: ${row.why}` : ''}</span>,
          sort: (row) => row.state, minor: true,
        },
        { name: 'In flight', cell: (row) => <>{row.in_flight}{row.in_flight_max ? <small>/{row.in_flight_max}</small> : null}</>, sort: (row) => row.in_flight, num: true },
        { name: 'Req/s', cell: (row) => rate(row.requests_per_second), sort: (row) => row.requests_per_second, num: true, minor: true },
        { name: 'TTFT p50 / p99', cell: (row) => <Ttft p50={row.ttft_p50} p99={row.ttft_p99} />, sort: (row) => row.ttft_p50, num: true },
        { name: 'Tok/s', hint: 'output tokens per second', cell: (row) => count(row.output_tokens_per_second), sort: (row) => row.output_tokens_per_second, num: true, minor: true },
        { name: 'Cached', hint: 'prompt tokens that came out of the backend\'s cache', cell: (row) => percent(row.cached_share), sort: (row) => row.cached_share, num: true, minor: true, wide: true },
        { name: 'Errors', cell: (row) => <span class={row.error_share ? 'bad-text' : ''}>{percent(row.error_share)}</span>, sort: (row) => row.error_share, num: true, minor: true },
        { name: 'Share', hint: 'of all requests', cell: (row) => percent(row.traffic_share), sort: (row) => row.traffic_share, num: true, minor: true, wide: true },
      ]} />
  );
}

function ModelTable({ models }: { models: Model[] }) {
  return (
    <Table rows={models} id={(row) => row.name} caption="Models" onOpen={(row) => go('requests', { model: row.name })} columns={[
      { name: 'Model', cell: (row) => <Lamp state={row.usable ? 'ok' : 'down'} label={row.name} />, sort: (row) => row.name, grow: true },
      { name: 'Req/s', cell: (row) => rate(row.requests_per_second), sort: (row) => row.requests_per_second, num: true },
      { name: 'Waiting', cell: (row) => row.waiting, sort: (row) => row.waiting, num: true, minor: true },
      { name: 'TTFT p50 / p99', cell: (row) => <Ttft p50={row.ttft_p50} p99={row.ttft_p99} />, sort: (row) => row.ttft_p50, num: true },
      { name: 'Tok/s', cell: (row) => count(row.output_tokens_per_second), sort: (row) => row.output_tokens_per_second, num: true, minor: true },
      { name: 'Cached', cell: (row) => percent(row.cached_share), sort: (row) => row.cached_share, num: true, minor: true, wide: true },
      { name: 'Errors', cell: (row) => <span class={row.error_share ? 'bad-text' : ''}>{percent(row.error_share)}</span>, sort: (row) => row.error_share, num: true, minor: true },
    ]} />
  );
}

function Near({ overview }: { overview: Overview }) {
  return (
    <Panel title="Limits near their line" source="live" aside={<a href={link('keys')}>{overview.counts.keys} keys</a>}>
      {overview.limits.length === 0
        ? <Empty>{overview.keys_required ? 'No key has used half of a limit.' : 'An open gateway: requests need no key, and none is limited.'}</Empty>
        : (
          <Table rows={overview.limits.slice(0, 4)} id={(row) => `${row.kind} ${row.key} ${row.name}`} caption="Limits near their line"
            onOpen={(row) => go('keys', row.kind === 'team' ? { team: row.key } : { open: row.key })}
            columns={[
              { name: 'Who', cell: (row) => <>{row.kind === 'team' ? <small>team </small> : null}{row.key}</>, grow: true },
              { name: 'Limit', cell: (row) => limitName(row.name), minor: true },
              { name: 'Used', cell: (row) => <Bar limit={row} /> },
              { name: 'Free in', cell: (row) => row.free_in_seconds === null ? DASH : span(Math.ceil(row.free_in_seconds)), num: true },
            ]} />
        )}
    </Panel>
  );
}

/** The newest failures; the same one again is a count, not another row. */
function Failures({ rows }: { rows: ReturnType<typeof useLive>['rows'] }) {
  const groups: { row: (typeof rows)[number]; times: number }[] = [];
  for (const row of rows) {
    if (row.status < 400 && !row.reason) continue;
    const same = groups.find(({ row: other }) =>
      other.status === row.status && other.reason === row.reason && other.key === row.key && other.model === row.model && other.backend === row.backend);
    if (same) same.times += 1; else groups.push({ row, times: 1 });
  }
  return (
    <Panel title="Recent refusals and faults" source="live" aside={<a href={link('requests', { status: 'failed' })}>all</a>}>
      {groups.length === 0 ? <Empty>None among the recent requests.</Empty> : (
        <Table rows={groups.slice(0, 5)} id={({ row }) => String(row.number)} caption="Recent refusals and faults"
          onOpen={({ row }) => go('requests', { status: 'failed', open: String(row.number) })}
          columns={[
            { name: 'Time', cell: ({ row }) => clock(row.at_unix_ms), tight: true },
            { name: 'What', cell: ({ row, times }) => <><Status {...row} />{times > 1 ? <small> ×{times}</small> : null}</>, tight: true },
            { name: 'Key', cell: ({ row }) => row.key ?? DASH, minor: true, cut: true },
            { name: 'Model', cell: ({ row }) => <span title={row.model ?? ''}>{row.model ?? DASH}</span>, minor: true, wide: true, cut: true },
            { name: 'Backend', cell: ({ row }) => row.backend ?? DASH },
          ]} />
      )}
    </Panel>
  );
}

/** Before the first request: the command that sends one. */
function First({ overview, clientUrl }: { overview: Overview; clientUrl: string | null }) {
  const [started] = useState(Date.now());
  const [, redraw] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => redraw((now) => now + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  const model = overview.models[0]?.name ?? 'MODEL';
  const text = `curl ${clientUrl ?? 'http://127.0.0.1:8080'}/v1/chat/completions \\\n`
    + (overview.keys_required ? '  -H "Authorization: Bearer $KEY" \\\n' : '')
    + `  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify({ model, stream: true, messages: [{ role: 'user', content: 'Hello' }] })}'`;
  return (
    <div class="now">
      <Sentence overview={overview} />
      <Panel title="No traffic yet">
        <p>Send the first request; this page shows it within a second.</p>
        <Code text={text} />
        {overview.keys_required ? <p>A key of your own: <code>ringway key new NAME</code> <Copy text="ringway key new NAME" /></p> : null}
        <p class="quiet">Waiting for the first request, {span((Date.now() - started) / 1000)} so far. Or <a href={link('try')}>try it here</a>.</p>
      </Panel>
      <Panel title="Backends"><BackendTable backends={overview.backends} /></Panel>
    </div>
  );
}

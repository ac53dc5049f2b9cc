// Which engine is sick, and since when? And taking one out of service.
import { useState } from 'preact/hooks';
import { call, Refused, useLoad } from '../api';
import { hue, Plot } from '../charts';
import { count, DASH, exact, percent, rate, span, words } from '../format';
import { change, link, type Route } from '../route';
import type { Backend, BackendDetail, Model, Session } from '../types';
import { Drawer, Empty, Facts, Lamp, Panel, Table, Trouble, Ttft, Waiting } from '../ui';
import { BackendTable } from './now';

export function Backends({ route, session }: { route: Route; session: Session }) {
  const backends = useLoad<{ total: number; backends: Backend[] }>('/backends', 2);
  const models = useLoad<{ total: number; models: Model[] }>('/models', 5);
  const open = route.params.get('open');
  return (
    <div class={`with-drawer ${open ? 'opened' : ''}`}>
      <div class="main">
        <Panel title="Backends" source={backends.at} aside={<span class="quiet">{backends.data?.total ?? ''}</span>}>
          <Trouble loaded={backends} /><Waiting loaded={backends} />
          {backends.data ? <BackendTable backends={backends.data.backends} open={open} /> : null}
        </Panel>
        <Panel title="Models" source={models.at} aside={<span class="quiet">{models.data?.total ?? ''}</span>}>
          <Trouble loaded={models} /><Waiting loaded={models} />
          {models.data ? <Models models={models.data.models} /> : null}
        </Panel>
      </div>
      {open ? <Detail name={open} writes={session.role === 'owner'} all={backends.data?.backends ?? []} changed={backends.again} /> : null}
    </div>
  );
}

function Models({ models }: { models: Model[] }) {
  return (
    <Table rows={models} id={(row) => row.name} caption="Models" columns={[
      { name: 'Model', cell: (row) => <><Lamp state={row.usable ? 'ok' : 'down'} label={row.name} />{row.aliases.length ? <small> also {row.aliases.join(', ')}</small> : null}</>, sort: (row) => row.name, grow: true },
      { name: 'Backends', cell: (row) => row.pool.join(', '), minor: true, wide: true },
      { name: 'Req/s', cell: (row) => rate(row.requests_per_second), sort: (row) => row.requests_per_second, num: true },
      { name: 'Waiting', cell: (row) => row.waiting, sort: (row) => row.waiting, num: true, minor: true },
      { name: 'TTFT p50 / p99', cell: (row) => <Ttft p50={row.ttft_p50} p99={row.ttft_p99} />, sort: (row) => row.ttft_p50, num: true },
      { name: 'Tok/s', cell: (row) => count(row.output_tokens_per_second), sort: (row) => row.output_tokens_per_second, num: true, minor: true },
      { name: 'Cached', cell: (row) => percent(row.cached_share), sort: (row) => row.cached_share, num: true, minor: true, wide: true },
      { name: 'Errors', cell: (row) => <span class={row.error_share ? 'bad-text' : ''}>{percent(row.error_share)}</span>, sort: (row) => row.error_share, num: true, minor: true },
      { name: 'Requests', hint: 'since the process started', cell: (row) => <a href={link('requests', { model: row.name })}>{exact(row.requests)}</a>, sort: (row) => row.requests, num: true, minor: true },
    ]} />
  );
}

function Detail({ name, writes, all, changed }: { name: string; writes: boolean; all: Backend[]; changed: () => void }) {
  const found = useLoad<BackendDetail>(`/backends/${encodeURIComponent(name)}`, 2);
  const row = found.data;
  const steps = row?.requests_history ?? [];
  const now = Math.floor(Date.now() / 1000);
  return (
    <Drawer kind="Backend" title={name} onClose={() => change({ open: null })}>
      <Trouble loaded={found} /><Waiting loaded={found} />
      {row ? (
        <>
          <p class="headline"><Lamp state={row.state} />{row.why ? <span>: {row.why}{row.paused_seconds ? `, for ${span(Math.ceil(row.paused_seconds))}` : ''}</span> : null}</p>
          {writes ? <Actions row={row} all={all} done={() => { found.again(); changed(); }} /> : null}
          {steps.length > 1
            ? <Plot height={110} unit={rate} summary={`Requests per second to ${name}, last 15 minutes`}
              at={steps.map((_, index) => now - (steps.length - 1 - index) * row.step_seconds)}
              lines={[{ name: 'requests per second', color: hue(0), values: steps, fill: true }]} />
            : null}
          <Facts rows={[
            ['Requests per second', rate(row.requests_per_second)],
            ['In flight', `${row.in_flight}${row.in_flight_max ? ` of ${row.in_flight_max}` : ''}`],
            ['First token, p50 / p99', <Ttft p50={row.ttft_p50} p99={row.ttft_p99} />],
            ['Output tokens per second', count(row.output_tokens_per_second)],
            ['Prompt tokens out of its cache', percent(row.cached_share)],
            ['Errors, last minute', percent(row.error_share)],
            ['Prompt tokens that wait for a first token', exact(row.pending_tokens)],
            ['Requests since the start', <a href={link('requests', { backend: name })}>{exact(row.requests)}</a>],
            ['Tokens since the start, in / out', `${exact(row.input_tokens)} / ${exact(row.output_tokens)}`],
          ]} />
          <h3>Where it is</h3>
          <Facts rows={[
            ['Address', <code>{row.target}</code>],
            ['Resolved to', row.addresses.length ? row.addresses.join(', ') : DASH],
            ['Kind', `${row.provider}${row.hosted ? ', hosted' : ''}`],
            ['TLS', row.tls ? (row.certificate_verified ? 'verified' : 'certificate not verified') : 'none'],
            ['Proxy', row.proxy],
            ['Health probe', row.health],
            ['Last failed probe', row.last_probe_failure],
          ]} />
          <h3>What it serves</h3>
          {row.deployments.length === 0 ? <Empty>No model uses it.</Empty> : (
            <Table rows={row.deployments} id={(one) => one.model} caption={`Deployments of ${name}`} columns={[
              { name: 'Model, as it calls it', cell: (one) => one.model, grow: true },
              { name: 'Breaker', cell: (one) => words(one.breaker) },
              { name: 'No requests', cell: (one) => one.blocked_by ? `${words(one.blocked_by)}, ${span(one.blocked_seconds ?? 0)}` : DASH },
            ]} />
          )}
        </>
      ) : null}
    </Drawer>
  );
}

/** Says what will happen before it does. */
function Actions({ row, all, done }: { row: BackendDetail; all: Backend[]; done: () => void }) {
  const [asking, ask] = useState(false);
  const [error, fail] = useState<Refused | null>(null);
  const drained = row.state === 'drained';
  const act = async () => {
    ask(false);
    fail(null);
    try {
      await call(`/backends/${encodeURIComponent(row.name)}/${drained ? 'undrain' : 'drain'}`, { method: 'POST' });
      done();
    } catch (reason) { fail(reason as Refused); }
  };
  const others = all.filter((other) => other.name !== row.name && other.state === 'ok' && other.models.some((model) => row.models.includes(model)));
  const alone = row.models.filter((model) => !others.some((other) => other.models.includes(model)));
  return (
    <div class="actions">
      {!asking ? (
        <button type="button" class={drained ? 'primary' : ''} onClick={() => (drained ? act() : ask(true))}>
          {drained ? 'Put back into service' : 'Drain…'}
        </button>
      ) : (
        <div class="confirm" role="group" aria-label={`Drain ${row.name}`}>
          <p>
            <b>{row.name}</b> gets no new requests; {row.in_flight === 0 ? 'none is in flight' : `${row.in_flight} in flight end as they would`}.
            {' '}{others.length > 0 ? `${others.map((other) => other.name).join(', ')} serve${others.length === 1 ? 's' : ''} on.` : ''}
            {alone.length > 0 ? <b class="bad-text"> No other backend in service has {alone.join(', ')}: those requests will fail.</b> : null}
            {' '}It lasts until it is put back, or the gateway restarts.
          </p>
          <button type="button" class="danger" onClick={act}>Drain {row.name}</button>
          <button type="button" onClick={() => ask(false)}>Cancel</button>
        </div>
      )}
      {error ? <p class="trouble" role="alert">{error.message}</p> : null}
    </div>
  );
}

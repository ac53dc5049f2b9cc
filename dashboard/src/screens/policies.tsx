// What is enforced?
import { useState } from 'preact/hooks';
import { call, Refused, useLoad } from '../api';
import { exact, moment, words } from '../format';
import { link } from '../route';
import type { Session } from '../types';
import { Empty, Lamp, Panel, Table, Trouble, Waiting } from '../ui';

interface Policies {
  generation: number; keys_required: boolean; last_reload_unix_ms: number | null; last_reload_error: string | null;
  groups: { name: string; lines: { name: string; value: string; meaning: string }[] }[];
  guards: Guard[];
}
interface Guard {
  name: string; models: number; keys: number | null; shadow: boolean; matched: number; shadowed: number; masked: number; refused: number;
  stopped: number; routed: number; asked: number; failed: number;
}

export function Policies({ session }: { session: Session }) {
  const found = useLoad<Policies>('/policies', 5);
  const [result, tell] = useState<{ ok: boolean; text: string } | null>(null);
  const [busy, work] = useState(false);
  const reload = async () => {
    work(true);
    tell(null);
    try {
      const { generation, notes } = await call<{ generation: number; notes: string[] }>('/reload', { method: 'POST', signal: AbortSignal.timeout(30_000) });
      tell({ ok: true, text: [`Plan ${generation} is active.`, ...notes].join(' ') });
    } catch (reason) {
      tell({ ok: false, text: (reason as Refused).message });
    }
    work(false);
    found.again();
  };
  const data = found.data;
  return (
    <div class="main">
      <Panel title="Configuration" source={found.at}>
        <Trouble loaded={found} /><Waiting loaded={found} />
        {data ? (
          <>
            <p class="headline">
              <Lamp state={data.last_reload_error ? 'degraded' : 'ok'} label={data.last_reload_error ? 'the last reload was refused; the plan before it is active' : `plan ${data.generation} is active`} />
              <span class="quiet"> {data.last_reload_unix_ms ? `last reload ${moment(data.last_reload_unix_ms)}` : 'not reloaded since the start'}</span>
            </p>
            {data.last_reload_error ? <pre class="problem">{data.last_reload_error}</pre> : null}
            <p>
              <button type="button" disabled={busy || session.role !== 'owner'} onClick={reload}>{busy ? 'Reloading…' : 'Reload the configuration file'}</button>{' '}
              <span class="quiet">It is applied whole, or refused whole; requests in flight keep the plan they started with.</span>
            </p>
            {result ? <pre class={result.ok ? 'said' : 'problem'} role="status">{result.text}</pre> : null}
            <p class="quiet">{data.keys_required ? <>Limits of a key: <a href={link('keys')}>Keys</a>, with the origin of each line.</> : 'Requests need no key: the gateway is open to those who reach it.'}</p>
          </>
        ) : null}
      </Panel>
      {data ? (
        <Panel title="Content rules" source={found.at} aside={<span class="quiet">since the process started</span>}>
          {data.guards.length === 0 ? <Empty>None. <code>[guard.NAME]</code> in the configuration adds one; with <code>shadow = true</code> it counts what it would do.</Empty> : (
            <Table rows={data.guards} id={(row) => row.name} caption="Content rules" columns={[
              { name: 'Rule', cell: (row) => <>{row.name}{row.shadow ? <small> shadow: it only counts</small> : null}</>, sort: (row) => row.name, grow: true },
              { name: 'For', cell: (row) => `${row.models} ${row.models === 1 ? 'model' : 'models'}, ${row.keys === null ? 'all keys' : `${row.keys} ${row.keys === 1 ? 'key' : 'keys'}`}`, minor: true },
              ...(['matched', 'shadowed', 'masked', 'refused', 'stopped', 'routed'] as const).map((name) => ({
                name: name === 'shadowed' ? 'Would have acted' : words(name), num: true, minor: name !== 'matched' && name !== 'shadowed',
                cell: (row: Guard) => exact(row[name]), sort: (row: Guard) => row[name],
              })),
              ...(data.guards.some((row) => row.asked) ? [{ name: 'Asked / no verdict', num: true, minor: true, cell: (row: Guard) => `${exact(row.asked)} / ${exact(row.failed)}` }] : []),
            ]} />
          )}
        </Panel>
      ) : null}
      {data?.groups.map((group) => (
        <Panel title={words(group.name)} key={group.name}>
          <Table rows={group.lines} id={(line) => line.name} caption={group.name} columns={[
            { name: 'Name', cell: (line) => <code>{group.name}.{line.name}</code> },
            { name: 'Value', cell: (line) => line.value, num: true },
            { name: 'What it bounds', cell: (line) => <span class="quiet">{line.meaning}</span>, grow: true, minor: true },
          ]} />
        </Panel>
      ))}
    </div>
  );
}

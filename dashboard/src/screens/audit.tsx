// Who changed what?
import { useState } from 'preact/hooks';
import { call, useLoad, type Refused } from '../api';
import { moment, words } from '../format';
import { Empty, Panel, Table, Trouble, Waiting } from '../ui';

interface Action { number: number; at_unix_ms: number; who: string; from: string; action: string; object: string; outcome: string }
interface Entry { sequence: number; at_ms: number; actor: string; origin: string; action: string; subject: string; before: string; after: string }

export function Audit() {
  const ledger = useLoad<{ entries: Entry[] }>('/ledger/audit', 5);
  const off = ledger.error?.status === 404;
  const memory = useLoad<{ actions: Action[] }>(off ? '/audit' : null, 5);
  const [older, keep] = useState<Entry[]>([]);
  const [end, reach] = useState(false);
  const [error, fail] = useState<Refused | null>(null);
  const newest = ledger.data?.entries ?? [];
  const seen = new Set(newest.map((entry) => entry.sequence));
  const entries = [...newest, ...older.filter((entry) => !seen.has(entry.sequence))];
  const rows: Action[] = off
    ? memory.data?.actions ?? []
    : entries.map((entry) => ({ number: entry.sequence, at_unix_ms: entry.at_ms, who: entry.actor, from: entry.origin, action: entry.action, object: entry.subject, outcome: entry.before ? `${entry.before} → ${entry.after}` : entry.after }));
  const more = async () => {
    try {
      const found = await call<{ entries: Entry[] }>(`/ledger/audit?before=${entries.at(-1)!.sequence}`);
      if (found.entries.length === 0) reach(true);
      keep((was) => [...was, ...found.entries]);
    } catch (reason) { fail(reason as Refused); }
  };
  return (
    <div class="main">
      <Panel title="What operators did" source={off ? memory.at : ledger.at}>
        {off ? <Trouble loaded={memory} /> : <><Trouble loaded={ledger} /><Waiting loaded={ledger} /></>}
        {rows.length === 0 && (ledger.data || memory.data) ? <Empty>Nothing yet.</Empty> : null}
        {rows.length ? (
          <Table rows={rows} id={(row) => String(row.number)} caption="Actions, newest first" columns={[
            { name: 'Time', cell: (row) => moment(row.at_unix_ms), tight: true },
            { name: 'Action', cell: (row) => words(row.action) },
            { name: 'Object', cell: (row) => row.object, grow: true },
            { name: 'Outcome', cell: (row) => row.outcome, minor: true, grow: true },
            { name: 'By', cell: (row) => row.who, minor: true },
            { name: 'From', cell: (row) => row.from, minor: true },
          ]} />
        ) : null}
        {!off && newest.length >= 50 && !end ? <button type="button" class="wide-button" onClick={more}>Older</button> : null}
        {error ? <p class="trouble" role="alert">{error.message}</p> : null}
        <p class="quiet end">{off ? 'No ledger: kept in memory, the newest 500 since the process started.' : <>Each entry is chained to the one before; <code>ringway audit verify</code> checks the chain.</>}</p>
      </Panel>
    </div>
  );
}

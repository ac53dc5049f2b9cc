// Who changed what?
import { useLoad } from '../api';
import { moment, words } from '../format';
import { Empty, Panel, Table, Trouble, Waiting } from '../ui';

interface Action { number: number; at_unix_ms: number; who: string; from: string; action: string; object: string; outcome: string }

export function Audit() {
  const found = useLoad<{ actions: Action[]; kept_for: string }>('/audit', 5);
  return (
    <div class="main">
      <Panel title="What operators did" source={found.at}>
        <Trouble loaded={found} /><Waiting loaded={found} />
        {found.data && found.data.actions.length === 0 ? <Empty>Nothing since the process started.</Empty> : null}
        {found.data?.actions.length ? (
          <Table rows={found.data.actions} id={(row) => String(row.number)} caption="Actions, newest first" columns={[
            { name: 'Time', cell: (row) => moment(row.at_unix_ms), tight: true },
            { name: 'Action', cell: (row) => words(row.action) },
            { name: 'Object', cell: (row) => row.object, grow: true },
            { name: 'Outcome', cell: (row) => row.outcome, minor: true, grow: true },
            { name: 'By', cell: (row) => row.who, minor: true },
            { name: 'From', cell: (row) => row.from, minor: true },
          ]} />
        ) : null}
        <p class="quiet end">Kept in memory: the newest 500 since the process started.</p>
      </Panel>
    </div>
  );
}

// Who may do what, and how much is left?
import { useEffect, useState } from 'preact/hooks';
import { call, useLoad, type Refused } from '../api';
import { DASH, exact, moment, span } from '../format';
import { change, link, type Route } from '../route';
import type { Key, Session, Team } from '../types';
import { Budgets, Create, KeyActions } from './keys-write';
import { Bar, Drawer, Empty, Facts, Lamp, limitName, Panel, Table, Trouble, Waiting } from '../ui';

interface Page { total: number; required: boolean; keys: Key[]; next: string | null }

export function Keys({ route, session }: { route: Route; session: Session }) {
  const open = route.params.get('open');
  const q = route.params.get('q') ?? '';
  const team = route.params.get('team');
  const query = `q=${encodeURIComponent(q)}${team ? `&team=${encodeURIComponent(team)}` : ''}`;
  const page = useLoad<Page>(`/keys?${query}`, 2);
  const teams = useLoad<{ total: number; teams: Team[] }>('/teams', 5);
  const [extra, setExtra] = useState<{ q: string; keys: Key[]; next: string | null } | null>(null);
  useEffect(() => setExtra(null), [query]);
  const [error, fail] = useState<Refused | null>(null);
  const more = async () => {
    const after = extra ? extra.next : page.data?.next;
    if (!after) return;
    try {
      const found = await call<Page>(`/keys?${query}&after=${encodeURIComponent(after)}`);
      setExtra({ q, keys: [...(extra?.keys ?? []), ...found.keys], next: found.next });
    } catch (reason) { fail(reason as Refused); }
  };
  const rows = page.data ? [...page.data.keys, ...(extra?.keys ?? [])] : [];
  const next = extra ? extra.next : page.data?.next;
  const [creating, create] = useState(false);
  const writes = session.role === 'owner' || session.role === 'admin';
  return (
    <div class={`with-drawer ${open || creating ? 'opened' : ''}`}>
      <div class="main">
        <div class="filters">
          {team ? <button type="button" class="chip" onClick={() => change({ team: null })} aria-label={`Remove the filter team ${team}`}><span>team:</span>{team} ×</button> : null}
          <input type="search" value={q} placeholder="A part of the name" aria-label="Filter keys by name" data-filter
            onInput={(event) => change({ q: event.currentTarget.value || null })} />
          {writes ? <button type="button" class="primary" onClick={() => { change({ open: null }); create(true); }}>New key…</button> : null}
        </div>
        {teams.data?.total ? (
          <Panel title="Teams" source={teams.at} aside={<span class="quiet">{exact(teams.data.total)}</span>}>
            <Trouble loaded={teams} />
            <Table rows={teams.data.teams} id={(row) => row.name} caption="Teams" open={team} onOpen={(row) => change({ team: row.name === team ? null : row.name, open: null })} columns={[
              { name: 'Team', cell: (row) => row.name, sort: (row) => row.name, grow: true },
              { name: 'Keys', cell: (row) => exact(row.keys), sort: (row) => row.keys, num: true },
              ...(['requests_per_minute', 'tokens_per_minute'] as const).map((name) => ({
                name: limitName(name), minor: name === 'requests_per_minute',
                cell: (row: Team) => { const found = row.limits.find((one) => one.name === name); return found ? <Bar limit={found} /> : <span class="quiet">unlimited</span>; },
              })),
              { name: 'In flight', cell: (row) => exact(row.in_flight), sort: (row) => row.in_flight, num: true, minor: true },
              { name: 'Requests', cell: (row) => exact(row.requests), sort: (row) => row.requests, num: true, minor: true },
              { name: 'Tokens', cell: (row) => exact(row.input_tokens + row.output_tokens), sort: (row) => row.input_tokens + row.output_tokens, num: true, minor: true },
            ]} />
          </Panel>
        ) : null}
        <Panel title={team ? `Keys of ${team}` : 'Keys'} source={page.at} aside={<span class="quiet">{page.data ? exact(page.data.total) : ''}</span>}>
          <Trouble loaded={page} /><Waiting loaded={page} />
          {error ? <p class="trouble" role="alert">{error.message}</p> : null}
          {page.data && !page.data.required ? <Empty>An open gateway: requests need no key. The first key that is created closes it, and so does a <code>[key.NAME]</code> in the configuration.</Empty> : null}
          {page.data?.required && rows.length === 0 ? <Empty>No key has “{q}” in its name.</Empty> : null}
          {rows.length ? <KeyTable rows={rows} open={open} /> : null}
          {next ? <button type="button" class="wide-button" onClick={more}>More</button> : null}
        </Panel>
      </div>
      {open
        ? <Detail name={open} writes={writes} changed={page.again} />
        : creating ? <Create session={session} teams={teams.data?.teams.map((row) => row.name) ?? []} made={page.again} onClose={() => create(false)} /> : null}
    </div>
  );
}

function KeyTable({ rows, open }: { rows: Key[]; open: string | null }) {
  const limit = (row: Key, name: string) => row.limits.find((one) => one.name === name);
  const cell = (row: Key, name: string) => { const found = limit(row, name); return found ? <Bar limit={found} /> : <span class="quiet">unlimited</span>; };
  const share = (row: Key, name: string) => { const found = limit(row, name); return found ? found.used / Math.max(1, found.max) : null; };
  return (
    <Table rows={rows} id={(row) => row.name} caption="Keys" open={open} onOpen={(row) => change({ open: row.name })} columns={[
      { name: 'Key', cell: (row) => row.name, sort: (row) => row.name, grow: true },
      { name: 'State', cell: (row) => <Lamp state={row.state} />, sort: (row) => row.state },
      { name: 'Team', cell: (row) => row.team ?? <span class="quiet">none</span>, sort: (row) => row.team, minor: true },
      { name: 'Models', cell: (row) => row.models === null ? <span class="quiet">all</span> : row.models.length === 0 ? 'none' : row.models.slice(0, 2).join(', ') + (row.models.length > 2 ? ` and ${row.models.length - 2} more` : ''), minor: true, wide: true },
      { name: 'Requests / min', cell: (row) => cell(row, 'requests_per_minute'), sort: (row) => share(row, 'requests_per_minute'), minor: true },
      { name: 'Tokens / min', cell: (row) => cell(row, 'tokens_per_minute'), sort: (row) => share(row, 'tokens_per_minute') },
      { name: 'In flight', cell: (row) => { const found = limit(row, 'in_flight'); return <>{row.in_flight}{found ? <small>/{found.max}</small> : null}</>; }, sort: (row) => row.in_flight, num: true, minor: true },
      { name: 'Requests', hint: 'since the process started', cell: (row) => <>{exact(row.requests)}{row.failed ? <small class="bad-text"> {exact(row.failed)} failed</small> : null}</>, sort: (row) => row.requests, num: true, minor: true },
      { name: 'Tokens', hint: 'input and output, since the process started', cell: (row) => exact(row.input_tokens + row.output_tokens), sort: (row) => row.input_tokens + row.output_tokens, num: true, minor: true },
    ]} />
  );
}

interface Policy { allowed: boolean; reason: string | null; lines: { name: string; value: string; origin: string }[] }

function Detail({ name, writes, changed }: { name: string; writes: boolean; changed: () => void }) {
  const [model, choose] = useState('');
  const key = useLoad<Key>(`/keys/${encodeURIComponent(name)}`, 2);
  const policy = useLoad<Policy>(key.data && key.data.state !== 'revoked' && !key.data.disabled ? `/explain?key=${encodeURIComponent(name)}${model ? `&model=${encodeURIComponent(model)}` : ''}` : null, 5);
  const models = useLoad<{ models: { name: string }[] }>('/models');
  const row = key.data;
  return (
    <Drawer kind="Key" title={name} onClose={() => change({ open: null })}>
      <Trouble loaded={key} /><Waiting loaded={key} />
      {row ? (
        <>
          <p class="headline"><Lamp state={row.state} />{row.state === 'unused' ? <span class="quiet"> no request since the process started</span> : null}</p>
          {row.disabled ? <p class="trouble" role="alert">Out of force: {row.disabled}</p> : null}
          {row.previous_valid_until_unix_ms ? <p class="said" role="status">It is being rotated: the secret before stays valid until {moment(row.previous_valid_until_unix_ms)}.</p> : null}
          {row.source === 'store' && writes && row.state !== 'revoked' ? <KeyActions row={row} done={() => { key.again(); policy.again(); changed(); }} /> : null}
          {row.limits.length ? (
            <dl class="limits">
              {row.limits.map((limit) => (
                <div key={limit.name}>
                  <dt>{limitName(limit.name)}</dt>
                  <dd><Bar limit={limit} /><small>{limit.free_in_seconds ? `all free again in ${span(Math.ceil(limit.free_in_seconds))}` : ''}</small></dd>
                </div>
              ))}
            </dl>
          ) : row.state === 'revoked' ? null : <Empty>It has no limits per minute.</Empty>}
          <Budgets of="key" row={row} writes={writes && row.state !== 'revoked'} done={() => { key.again(); policy.again(); changed(); }} />
          <Facts rows={[
            ['Requests since the start', <a href={link('requests', { key: name })}>{exact(row.requests)}</a>],
            ['Failed', row.failed ? <a href={link('requests', { key: name, status: 'failed' })}>{exact(row.failed)}</a> : '0'],
            ['Tokens, in / out', `${exact(row.input_tokens)}${row.cached_tokens ? ` (${exact(row.cached_tokens)} cached)` : ''} / ${exact(row.output_tokens)}`],
            ['Team', row.team ? <a href={link('keys', { team: row.team })}>{row.team}</a> : null],
            ['Expires', row.expires_unix_ms ? moment(row.expires_unix_ms) : 'never'],
            ['Tags', row.tags.length ? row.tags.join(', ') : null],
            ['Metadata', Object.keys(row.metadata).length ? Object.entries(row.metadata).map(([note, value]) => <div key={note}>{note}: {value}</div>) : null],
            ['Public id', row.public_id ? <code>{row.public_id}</code> : null],
            ['Created', row.created_unix_ms ? moment(row.created_unix_ms) : null],
            ['Revoked', row.revoked_unix_ms ? moment(row.revoked_unix_ms) : null],
            ['Kept in', row.source === 'store' ? 'the store of this gateway' : 'the configuration file; change it there and reload'],
          ]} />
        </>
      ) : null}
      {row && row.state !== 'revoked' ? <h3>What it may do, and where that is said</h3> : null}
      {row && row.state !== 'revoked' ? <label class="field">for the model{' '}
        <select value={model} onChange={(event) => choose(event.currentTarget.value)}>
          <option value="">any</option>
          {models.data?.models.map((one) => <option key={one.name} value={one.name}>{one.name}</option>)}
        </select>
      </label> : null}
      <Trouble loaded={policy} />
      {policy.data ? (
        <>
          <p class="headline"><Lamp state={policy.data.allowed ? 'ok' : 'down'} label={policy.data.allowed ? 'a request now is let in' : `a request now is refused: ${policy.data.reason}`} /></p>
          <Table rows={policy.data.lines} id={(line) => line.name + line.value} caption="Effective policy" columns={[
            { name: 'Rule', cell: (line) => line.name.replace(/_/g, ' ') },
            { name: 'Value', cell: (line) => line.value || DASH, grow: true },
            { name: 'Said by', cell: (line) => <span class="quiet">{line.origin}</span> },
          ]} />
        </>
      ) : null}
    </Drawer>
  );
}

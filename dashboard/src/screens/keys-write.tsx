// Creating, rotating and revoking a key; setting a budget.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { call, type Refused, useLoad } from '../api';
import { exact, moment } from '../format';
import { change } from '../route';
import type { Budget, Key, Session } from '../types';
import { Code, Copy, Drawer } from '../ui';

const json = (method: string, body: unknown): RequestInit =>
  ({ method, body: JSON.stringify(body), headers: { 'content-type': 'application/json' }, signal: AbortSignal.timeout(20_000) });

/** A write that is under way, and why the last one was refused. */
function useWrite() {
  const [busy, work] = useState(false);
  const [error, fail] = useState<string | null>(null);
  const write = async <T,>(path: string, init: RequestInit): Promise<T | null> => {
    work(true);
    fail(null);
    try {
      return await call<T>(path, init);
    } catch (reason) {
      fail((reason as Refused).message);
      return null;
    } finally {
      work(false);
    }
  };
  return { busy, error, write };
}

const Refusal = ({ text }: { text: string | null }) => (text ? <p class="trouble" role="alert">{text}</p> : null);

const Field = ({ name, hint, children }: { name: string; hint?: string; children: ComponentChildren }) => (
  <label class="field"><span>{name}{hint ? <small> {hint}</small> : null}</span>{children}</label>
);

const digits = (text: string) => text.replace(/\D/g, '');

/** Shown once: nobody can read it again, here or elsewhere. */
function Secret({ text, title, url, close }: { text: string; title: string; url: string | null; close: () => void }) {
  return (
    <div class="secret" role="group" aria-label={title}>
      <p><b>{title}</b> It is shown only now: the gateway keeps its digest.</p>
      <div class="code"><pre class="secret-text">{text}</pre><Copy text={text} label="Copy secret" /></div>
      {url ? <>
        <p class="quiet">For a client of OpenAI's API:</p>
        <Code text={`export OPENAI_BASE_URL=${url}/v1\nexport OPENAI_API_KEY=${text}`} />
        <p class="quiet">Try it:</p>
        <Code text={`curl ${url}/v1/models -H 'Authorization: Bearer ${text}'`} />
      </> : null}
      <button type="button" class="primary" onClick={close}>I have stored it</button>
    </div>
  );
}

interface Made extends Key { secret: string }

export function Create({ session, teams, made, onClose }: { session: Session; teams: string[]; made: () => void; onClose: () => void }) {
  const [form, set] = useState({ name: '', team: session.team ?? '', models: '', requests: '', tokens: '', expires: '', budget: '', per: 'day' });
  const models = useLoad<{ models: { name: string }[] }>(session.team ? null : '/models');
  const [key, show] = useState<Made | null>(null);
  const { busy, error, write } = useWrite();
  const fill = (part: Partial<typeof form>) => set((was) => ({ ...was, ...part }));
  const submit = async (event: Event) => {
    event.preventDefault();
    const list = form.models.split(/[\s,]+/).filter(Boolean);
    const created = await write<Made>('/keys', json('POST', {
      name: form.name.trim(),
      ...(form.team ? { team: form.team } : {}),
      ...(list.length ? { models: list } : {}),
      ...(form.requests ? { requests_per_minute: Number(form.requests) } : {}),
      ...(form.tokens ? { tokens_per_minute: Number(form.tokens) } : {}),
      ...(form.expires ? { expires: new Date(`${form.expires}T00:00:00`).toISOString() } : {}),
      ...(form.budget ? { budgets: [{ tokens: Number(form.budget), per: form.per }] } : {}),
    }));
    if (created) { show(created); made(); }
  };
  if (key) {
    return (
      <Drawer kind="New" title={`Key ${key.name}`} onClose={onClose}>
        <Secret text={key.secret} title={`The secret of ${key.name}.`} url={session.client_url} close={() => { onClose(); change({ open: key.name }); }} />
      </Drawer>
    );
  }
  return (
    <Drawer kind="New" title="Key" onClose={onClose}>
      {session.keys_required ? null : <p class="trouble quiet-trouble" role="status">Requests need no key now. From the first key on, every request needs one.</p>}
      <form onSubmit={submit} class="form">
        <Field name="Name"><input required value={form.name} onInput={(event) => fill({ name: event.currentTarget.value })} placeholder="team-search" autoComplete="off" spellcheck={false} /></Field>
        <Field name="Team">
          <select value={form.team} disabled={session.team !== null} onChange={(event) => fill({ team: event.currentTarget.value })}>
            {session.team === null ? <option value="">none</option> : null}
            {[...new Set([...teams, ...(session.team ? [session.team] : [])])].map((team) => <option key={team} value={team}>{team}</option>)}
          </select>
        </Field>
        <Field name="Models" hint="* for any run of characters; all if empty">
          <input value={form.models} list="key-models" onInput={(event) => fill({ models: event.currentTarget.value })} placeholder="llama-*" autoComplete="off" spellcheck={false} />
          <datalist id="key-models">{models.data?.models.map((model) => <option key={model.name} value={model.name} />)}</datalist>
        </Field>
        <div class="pair">
          <Field name="Requests per minute"><input inputMode="numeric" value={form.requests} onInput={(event) => fill({ requests: digits(event.currentTarget.value) })} placeholder="unlimited" /></Field>
          <Field name="Tokens per minute"><input inputMode="numeric" value={form.tokens} onInput={(event) => fill({ tokens: digits(event.currentTarget.value) })} placeholder="unlimited" /></Field>
        </div>
        <div class="pair">
          <Field name="Budget in tokens"><input inputMode="numeric" value={form.budget} onInput={(event) => fill({ budget: digits(event.currentTarget.value) })} placeholder="none" /></Field>
          <Field name="of each"><Per value={form.per} choose={(per) => fill({ per })} /></Field>
        </div>
        <Field name="Expires" hint="at the start of that day; never if empty"><input type="date" value={form.expires} onInput={(event) => fill({ expires: event.currentTarget.value })} /></Field>
        <Refusal text={error} />
        <button type="submit" class="primary" disabled={busy || !form.name.trim()}>{busy ? 'Creating…' : 'Create key'}</button>
      </form>
    </Drawer>
  );
}

const Per = ({ value, choose }: { value: string; choose: (per: string) => void }) => (
  <select value={value} onChange={(event) => choose(event.currentTarget.value)}>
    {['minute', 'hour', 'day', 'week', 'month'].map((per) => <option key={per} value={per}>{per}</option>)}
  </select>
);

const OVERLAPS: [string, number][] = [['24 hours', 86_400], ['7 days', 7 * 86_400], ['1 hour', 3_600], ['none: it leaked', 0]];

/** Says what will happen before it does. */
export function KeyActions({ row, done }: { row: Key; done: () => void }) {
  const [asking, ask] = useState<'rotate' | 'revoke' | null>(null);
  const [overlap, choose] = useState(OVERLAPS[0]![1]);
  const [typed, type] = useState('');
  const [secret, show] = useState<string | null>(null);
  const { busy, error, write } = useWrite();
  const at = `/keys/${encodeURIComponent(row.name)}`;
  const running = row.in_flight === 0 ? 'None of its requests is running' : row.in_flight === 1 ? 'Its 1 running request ends' : `Its ${row.in_flight} running requests end`;
  const rotate = async () => {
    const made = await write<{ secret: string }>(`${at}/rotate`, json('POST', { overlap_seconds: overlap }));
    if (made) { ask(null); show(made.secret); done(); }
  };
  const revoke = async () => {
    if (await write(at, { method: 'DELETE', signal: AbortSignal.timeout(20_000) })) { ask(null); done(); }
  };
  if (secret) return <div class="actions"><Secret text={secret} title={`The new secret of ${row.name}.`} url={null} close={() => show(null)} /></div>;
  return (
    <div class="actions">
      {asking === null ? (
        <>
          <button type="button" onClick={() => ask('rotate')}>Rotate…</button>{' '}
          <button type="button" onClick={() => { type(''); ask('revoke'); }}>Revoke…</button>
        </>
      ) : asking === 'rotate' ? (
        <div class="confirm" role="group" aria-label={`Rotate ${row.name}`}>
          <p><b>{row.name}</b> gets another secret. Its name, limits and usage stay.</p>
          <Field name="The secret before stays valid for">
            <select value={overlap} onChange={(event) => choose(Number(event.currentTarget.value))}>
              {OVERLAPS.map(([name, seconds]) => <option key={seconds} value={seconds}>{name}</option>)}
            </select>
          </Field>
          {overlap === 0 ? <p class="bad-text">Clients with the secret before are refused at once. {running}.</p> : null}
          <button type="button" class="primary" disabled={busy} onClick={rotate}>Rotate {row.name}</button>
          <button type="button" onClick={() => ask(null)}>Cancel</button>
        </div>
      ) : (
        <div class="confirm" role="group" aria-label={`Revoke ${row.name}`}>
          <p>Clients with this key are refused at once. {running}. It cannot be undone; what it used is kept.</p>
          <Field name={`Type ${row.name} to confirm`}><input value={typed} autoComplete="off" spellcheck={false} onInput={(event) => type(event.currentTarget.value)} /></Field>
          <button type="button" class="danger" disabled={busy || typed !== row.name} onClick={revoke}>Revoke {row.name}</button>
          <button type="button" onClick={() => ask(null)}>Cancel</button>
        </div>
      )}
      <Refusal text={error} />
    </div>
  );
}

const amount = (budget: Budget, value: number) => budget.unit === 'money' ? value.toFixed(2) : exact(Math.round(value));

/** Budgets with what is used of each, and setting one. */
export function Budgets({ of, row, writes, done }: { of: 'key' | 'team'; row: { name: string; source: string; budgets: Budget[] }; writes: boolean; done: () => void }) {
  const [asking, ask] = useState(false);
  const [form, set] = useState({ unit: 'tokens', most: '', per: 'day', zone: '' });
  const { busy, error, write } = useWrite();
  const may = writes && row.source === 'store';
  const fill = (part: Partial<typeof form>) => set((was) => ({ ...was, ...part }));
  const body = (unit: string, most: number, per: string, zone: string | null) =>
    ({ [of]: row.name, [unit]: most, per, ...(zone === null ? { rolling: true } : zone ? { zone } : {}) });
  const save = async (event: Event) => {
    event.preventDefault();
    if (await write('/budgets', json('PUT', body(form.unit, Number(form.most), form.per, form.zone.trim())))) { ask(false); done(); }
  };
  const remove = async (budget: Budget) => {
    if (await write('/budgets', json('DELETE', body(budget.unit, budget.max, budget.per, budget.zone)))) done();
  };
  if (!may && row.budgets.length === 0) return null;
  return (
    <section class="budgets" aria-label={`Budgets of ${row.name}`}>
      <h3>Budgets</h3>
      {row.budgets.length ? (
        <dl class="limits">
          {row.budgets.map((budget) => {
            const share = budget.max ? Math.min(1, (budget.used + budget.reserved) / budget.max) : 1;
            return (
              <div key={`${budget.unit} ${budget.per} ${budget.zone}`}>
                <dt>{budget.unit} a {budget.per}{budget.zone === null ? ', rolling' : budget.zone === 'UTC' ? '' : `, ${budget.zone}`}</dt>
                <dd>
                  <span class="bar-with">
                    <span class={`bar ${share >= 1 ? 'full' : share >= 0.8 ? 'near' : ''}`} role="img" aria-label={`${Math.round(share * 100)} % used`}><span style={{ width: `${share * 100}%` }} /></span>
                    <span class="num">{amount(budget, budget.used)} / {amount(budget, budget.max)}</span>
                  </span>
                  <small>{budget.reserved ? `${amount(budget, budget.reserved)} reserved; ` : ''}{budget.zone === null ? '' : `resets ${moment(budget.reset_unix_ms)}`}</small>
                  {may ? <button type="button" class="small" disabled={busy} aria-label={`Remove the budget of ${budget.unit} a ${budget.per}`} onClick={() => remove(budget)}>Remove</button> : null}
                </dd>
              </div>
            );
          })}
        </dl>
      ) : <p class="quiet">None.</p>}
      {may && !asking ? <button type="button" onClick={() => ask(true)}>Set a budget…</button> : null}
      {may && asking ? (
        <form class="confirm calm" onSubmit={save} aria-label={`Set a budget of ${row.name}`}>
          <div class="pair">
            <Field name="Amount"><input required inputMode="decimal" value={form.most} onInput={(event) => fill({ most: event.currentTarget.value.replace(/[^\d.]/g, '') })} placeholder="1000000" /></Field>
            <Field name="Unit"><select value={form.unit} onChange={(event) => fill({ unit: event.currentTarget.value })}><option value="tokens">tokens</option><option value="money">money</option></select></Field>
          </div>
          <div class="pair">
            <Field name="of each"><Per value={form.per} choose={(per) => fill({ per })} /></Field>
            <Field name="Zone"><input value={form.zone} onInput={(event) => fill({ zone: event.currentTarget.value })} placeholder="UTC" autoComplete="off" spellcheck={false} /></Field>
          </div>
          <p class="quiet">It takes the place of a budget with the same unit and window; what was used stays.</p>
          <button type="submit" class="primary" disabled={busy || !form.most}>Set budget</button>
          <button type="button" onClick={() => ask(false)}>Cancel</button>
        </form>
      ) : null}
      <Refusal text={error} />
    </section>
  );
}

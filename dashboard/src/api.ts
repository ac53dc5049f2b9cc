// The admin API: one way to ask, one live stream.
import { useEffect, useState } from 'preact/hooks';
import type { History, Overview, Row, Second, Session, Tick } from './types';

export class Refused extends Error {
  constructor(readonly status: number, readonly code: string, message: string) { super(message); }
}

let csrf: string | null = null;
let onSignedOut = () => {};
export const whenSignedOut = (then: () => void) => { onSignedOut = then; };

const asked = (init: RequestInit = {}): RequestInit => ({
  ...init,
  headers: { ...(init.headers ?? {}), ...(csrf && init.method && init.method !== 'GET' ? { 'x-csrf-token': csrf } : {}) },
});

export async function refusal(response: Response): Promise<Refused> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return new Refused(response.status, error.code ?? '', error.message ?? String(error));
  } catch {
    return new Refused(response.status, '', text.trim() || `status ${response.status}`);
  }
}

const DEADLINE_MS = 5000;

/** Reads or writes one resource. */
export async function call<T>(path: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/v1${path}`, asked({ ...init, signal: init.signal ?? AbortSignal.timeout(DEADLINE_MS) }));
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    throw new Refused(0, 'unreachable', late ? `no response in ${DEADLINE_MS / 1000} s` : 'the gateway cannot be reached');
  }
  if (response.status === 401 && path !== '/session') onSignedOut();
  if (!response.ok) throw await refusal(response);
  return response.status === 204 ? (undefined as T) : await response.json();
}

/** For responses that come in pieces. */
export const open = (path: string, init: RequestInit) => fetch(`/api/v1${path}`, asked(init));

export async function session(): Promise<Session> {
  const found = await call<Session>('/session');
  csrf = found.csrf;
  return found;
}

export const signIn = (token: string) =>
  call<void>('/session', { method: 'POST', body: JSON.stringify({ token }), headers: { 'content-type': 'application/json' } });

export interface Loaded<T> { data: T | null; at: number; error: Refused | null; busy: boolean; again: () => void }

/** A panel's data: the last good response stays, with its age, when a later one fails. */
export function useLoad<T>(path: string | null, everySeconds = 0): Loaded<T> {
  const [state, set] = useState<{ path: string | null; data: T | null; at: number; error: Refused | null }>(
    { path: null, data: null, at: 0, error: null });
  const [round, setRound] = useState(0);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (path === null) return;
    let gone = false;
    let timer = 0;
    const load = async () => {
      setBusy(true);
      try {
        const data = await call<T>(path);
        if (!gone) set({ path, data, at: Date.now(), error: null });
      } catch (error) {
        if (!gone) set((was) => ({ path, data: was.path === path ? was.data : null, at: was.at, error: error as Refused }));
      }
      if (gone) return;
      setBusy(false);
      if (everySeconds) timer = window.setTimeout(load, (document.hidden ? 10 : 1) * everySeconds * 1000);
    };
    load();
    return () => { gone = true; clearTimeout(timer); };
  }, [path, everySeconds, round]);
  const fits = state.path === path;
  return {
    data: fits ? state.data : null, at: state.at, error: fits ? state.error : null, busy,
    again: () => setRound((now) => now + 1),
  };
}

const SECONDS_MAX = 900;
const ROWS_MAX = 200;

export interface LiveState {
  status: 'connecting' | 'live' | 'paused' | 'lost';
  overview: Overview | null;
  seconds: Second[];
  history: History | null;
  rows: Row[];
  more: number;
  at: number;
}

/** The one stream of the page. */
class Live {
  state: LiveState = { status: 'connecting', overview: null, seconds: [], history: null, rows: [], more: 0, at: 0 };
  private watchers = new Set<() => void>();
  private source: EventSource | null = null;
  private wanted = false;
  private timer = 0;

  constructor() {
    document.addEventListener('visibilitychange', () => { if (this.wanted) this.connect(); });
  }

  watch(watcher: () => void): () => void {
    this.watchers.add(watcher);
    return () => { this.watchers.delete(watcher); };
  }

  start() { this.wanted = true; this.connect(); }

  stop(status: LiveState['status'] = 'paused') {
    this.wanted = false;
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.tell({ status });
  }

  toggle() { if (this.wanted) this.stop(); else this.start(); }

  private tell(part: Partial<LiveState>) {
    this.state = { ...this.state, ...part };
    for (const watcher of this.watchers) watcher();
  }

  private connect() {
    clearTimeout(this.timer);
    this.source?.close();
    const source = new EventSource(`/api/v1/live${document.hidden ? '?every=10' : ''}`);
    this.source = source;
    source.addEventListener('snapshot', (event) => {
      const { overview, history, requests } = JSON.parse((event as MessageEvent).data);
      this.tell({ status: 'live', overview, history, rows: requests, seconds: rowsOf(history), at: Date.now() });
    });
    source.addEventListener('tick', (event) => this.tick(JSON.parse((event as MessageEvent).data)));
    source.onerror = () => {
      source.close();
      if (this.source !== source) return;
      this.tell({ status: 'lost' });
      this.timer = window.setTimeout(() => this.connect(), 2000);
      call('/session').catch(() => {}); // tells a session that has ended from a gateway that has
    };
  }

  private tick(tick: Tick) {
    const { state } = this;
    const seconds = tick.second ? [...state.seconds, tick.second].slice(-SECONDS_MAX) : state.seconds;
    let history = state.history;
    if (history && tick.column && tick.second) {
      const columns = [...history.columns, tick.column].slice(-SECONDS_MAX / history.step_seconds);
      history = { ...history, columns, models: tick.models ?? history.models, at: tick.second.at };
    }
    const rows = [...tick.requests.reverse(), ...state.rows].slice(0, ROWS_MAX);
    this.tell({ status: 'live', overview: tick.overview, seconds, history, rows, more: tick.more, at: Date.now() });
  }
}

function rowsOf(history: History): Second[] {
  const at = history.seconds.at ?? [];
  const names = Object.keys(history.seconds) as (keyof Second)[];
  return at.map((_, index) => Object.fromEntries(names.map((name) => [name, history.seconds[name]![index]])) as unknown as Second);
}

export const live = new Live();

export function useLive(): LiveState {
  const [state, set] = useState(live.state);
  useEffect(() => {
    set(live.state);
    return live.watch(() => set(live.state));
  }, []);
  return state;
}

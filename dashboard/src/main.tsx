// The frame around every screen: header, rail, keyboard.
import { render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import 'uplot/dist/uPlot.min.css';
import './style.css';
import { call, live, Refused, session as askSession, useLive, whenSignedOut } from './api';
import { words, zone } from './format';
import { change, go, link, useRoute } from './route';
import { Audit } from './screens/audit';
import { Backends } from './screens/backends';
import { Keys } from './screens/keys';
import { Now } from './screens/now';
import { Policies } from './screens/policies';
import { Requests } from './screens/requests';
import { SignIn } from './screens/signin';
import { Try } from './screens/try';
import { Usage } from './screens/usage';
import type { Session } from './types';
import { Icon, Lamp } from './ui';

const SCREENS: [string, string, string][] = [
  ['now', 'Now', 'n'], ['usage', 'Usage', 'u'], ['keys', 'Keys', 'k'], ['backends', 'Backends', 'b'],
  ['requests', 'Requests', 'r'], ['policies', 'Policies', 'p'], ['audit', 'Audit', 'a'], ['try', 'Try', 't'],
];
/** What a thumb reaches on a phone; the rest is behind More. */
const FIRST = ['now', 'usage', 'keys', 'requests'];

/** Who is confined to a team sees what concerns it; the audit log is for owners and auditors. */
const sees = ({ role, team }: Session, screen: string) =>
  team ? ['usage', 'keys', 'try'].includes(screen) : screen !== 'audit' || role === 'owner' || role === 'auditor';

function App() {
  const [session, set] = useState<Session | null>(null);
  const [state, setState] = useState<'asking' | 'signed-out' | 'in' | 'broken'>('asking');
  const [trouble, tell] = useState('');
  const enter = async () => {
    try {
      const found = await askSession();
      set(found);
      setState('in');
      if (!found.team) live.start();
    } catch (error) {
      const refused = error as Refused;
      if (refused.status === 401) { live.stop('connecting'); setState('signed-out'); return; }
      tell(refused.message);
      setState('broken');
      setTimeout(enter, 2000);
    }
  };
  useEffect(() => {
    whenSignedOut(() => { live.stop('connecting'); setState('signed-out'); });
    enter();
  }, []);
  if (state === 'signed-out') return <SignIn done={enter} />;
  if (state === 'broken' || !session) return <main class="signin"><p role="status">{trouble ? `${trouble}; trying again` : 'Loading…'}</p></main>;
  return <Frame session={session} />;
}

function Frame({ session }: { session: Session }) {
  const route = useRoute();
  const [help, showHelp] = useState(false);
  const [more, showMore] = useState(false);
  const screens = SCREENS.filter(([id]) => sees(session, id));
  const asked = SCREENS.find(([id]) => id === route.screen)?.[0] ?? screens[0]![0];
  const screen = route.screen === 'now' && !sees(session, 'now') ? screens[0]![0] : asked;
  const title = SCREENS.find(([id]) => id === screen)![1];
  useEffect(() => { document.title = `${title} · Ringway`; showMore(false); }, [title]);
  useKeys(() => showHelp((now) => !now));
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => { event.preventDefault(); document.getElementById('content')?.focus(); }}>Skip to the content</a>
      <Header session={session} screen={screen} help={() => showHelp(true)} />
      <nav class="rail" aria-label="Screens">
        {screens.map(([id, name, key]) => (
          <a key={id} href={link(id)} class={FIRST.includes(id) ? '' : 'later'} aria-current={id === screen ? 'page' : undefined} title={`${name} (g ${key})`}>
            <Icon name={id} /><span>{name}</span>
          </a>
        ))}
        <button type="button" class="more" aria-expanded={more} onClick={() => showMore(!more)}><Icon name="more" /><span>More</span></button>
      </nav>
      {more ? (
        <div class="sheet" role="group" aria-label="More screens">
          {screens.filter(([id]) => !FIRST.includes(id)).map(([id, name]) => <a key={id} href={link(id)}><Icon name={id} />{name}</a>)}
        </div>
      ) : null}
      <main id="content" tabIndex={-1}>
        <h1 class="sr">{title}</h1>
        {sees(session, screen) ? <>
        {screen === 'now' ? <Now clientUrl={session.client_url} /> : null}
        {screen === 'usage' ? <Usage route={route} /> : null}
        {screen === 'keys' ? <Keys route={route} session={session} /> : null}
        {screen === 'backends' ? <Backends route={route} session={session} /> : null}
        {screen === 'requests' ? <Requests route={route} /> : null}
        {screen === 'policies' ? <Policies session={session} /> : null}
        {screen === 'audit' ? <Audit /> : null}
        {screen === 'try' ? <Try session={session} /> : null}
        </> : <div class="main"><p class="trouble" role="alert">The role {session.role}{session.team ? ` of team ${session.team}` : ''} may not see this screen.</p></div>}
      </main>
      {help ? <Help close={() => showHelp(false)} /> : null}
    </>
  );
}

function Header({ session, screen, help }: { session: Session; screen: string; help: () => void }) {
  const { overview, status } = useLive();
  const said = useCalm(overview ? overview.sentence : '');
  const word = { live: 'live', paused: 'paused', lost: 'connection lost', connecting: 'connecting' }[status];
  return (
    <header class="top">
      <a class="brand" href={link('now')}><svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" fill="#17506e" /><circle cx="16" cy="16" r="8.5" fill="none" stroke="#fff" stroke-width="3.200" stroke-dasharray="40 14" transform="rotate(-60 16 16)" /><circle cx="22.600" cy="9.400" r="2.600" fill="#f3b23c" /></svg>Ringway</a>
      <span class="node" title={`version ${session.version}`}>{session.node}</span>
      <a class="state" href={link(session.team ? 'keys' : 'now')} aria-label={session.team ? 'Keys' : undefined}>
        {overview ? <Lamp state={overview.state} label={screen === 'now' ? words(overview.state) : overview.sentence} /> : null}
      </a>
      <span class="sr" role="status" aria-live="polite">{said}</span>
      <Search />
      {session.team ? null : <button type="button" class={`feed ${status}`} title="Live updates on or off (.)" aria-pressed={status === 'live'} onClick={() => live.toggle()}>
        <Lamp state={status} label={word} />
      </button>}
      <span class="zone" title="Times are in this zone">{zone()}</span>
      <ThemeButton />
      <button type="button" class="ghost keys-help" aria-label="Keyboard" title="Keyboard (?)" onClick={help}><Icon name="help" /></button>
      {session.who === 'session'
        ? <button type="button" class="small" onClick={async () => { try { await call('/session', { method: 'DELETE' }); } finally { location.reload(); } }}>Sign out</button>
        : <span class="who" title={session.who === 'loopback' ? 'No admin token is configured: everybody on this machine is the owner' : ''}>{session.role}{session.team ? ` of ${session.team}` : ''}</span>}
    </header>
  );
}

/** What a screen reader is told: at most every ten seconds. */
function useCalm(text: string): string {
  const [said, say] = useState('');
  const last = useRef(0);
  useEffect(() => {
    const timer = setTimeout(() => { last.current = Date.now(); say(text); }, Math.max(0, last.current + 10_000 - Date.now()));
    return () => clearTimeout(timer);
  }, [text]);
  return said;
}

type Theme = 'light' | 'dark' | null;
const stored = (): Theme => { const value = localStorage.getItem('ringway-theme'); return value === 'light' || value === 'dark' ? value : null; };
function applyTheme(theme: Theme) {
  if (theme) { document.documentElement.dataset.theme = theme; localStorage.setItem('ringway-theme', theme); }
  window.dispatchEvent(new Event('ringway-theme'));
}
const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
const flip = () => applyTheme(isDark() ? 'light' : 'dark');

function ThemeButton() {
  const [, redraw] = useState(0);
  useEffect(() => {
    const changed = () => redraw((now) => now + 1);
    window.addEventListener('ringway-theme', changed);
    return () => window.removeEventListener('ringway-theme', changed);
  }, []);
  return <button type="button" class="ghost" aria-label={isDark() ? 'Light theme' : 'Dark theme'} title="Light or dark (d)" onClick={flip}><Icon name={isDark() ? 'sun' : 'moon'} /></button>;
}

/** Names lead to their rows; anything else is looked for as a request's id. */
function Search() {
  const { overview } = useLive();
  const [text, type] = useState('');
  const [keys, setKeys] = useState<string[]>([]);
  useEffect(() => {
    if (text.length < 2) { setKeys([]); return; }
    const timer = setTimeout(() => {
      call<{ keys: { name: string }[] }>(`/keys?limit=5&q=${encodeURIComponent(text)}`).then((found) => setKeys(found.keys.map((key) => key.name)), () => {});
    }, 150);
    return () => clearTimeout(timer);
  }, [text]);
  const part = text.toLowerCase();
  const named = (names: string[]) => names.filter((name) => name.toLowerCase().includes(part)).slice(0, 5);
  const hits: [string, string, string][] = text ? [
    ...named(overview?.backends.map((row) => row.name) ?? []).map((name): [string, string, string] => ['Backend', name, link('backends', { open: name })]),
    ...named(overview?.models.map((row) => row.name) ?? []).map((name): [string, string, string] => ['Model', name, link('requests', { model: name })]),
    ...keys.map((name): [string, string, string] => ['Key', name, link('keys', { open: name })]),
    ...SCREENS.filter(([, name]) => name.toLowerCase().startsWith(part)).map(([id, name]): [string, string, string] => ['Screen', name, link(id)]),
  ] : [];
  const leave = (hash: string) => { location.hash = hash; type(''); (document.activeElement as HTMLElement | null)?.blur(); };
  return (
    <form class="search" role="search" aria-label="Search" onSubmit={(event) => { event.preventDefault(); if (text) leave(hits[0]?.[2] ?? link('requests', { id: text })); }}>
      <Icon name="search" size={14} />
      <input id="search" type="search" value={text} placeholder="Search ( / )" aria-label="Search for a key, model, backend or request id" autoComplete="off"
        onInput={(event) => type(event.currentTarget.value.trim())} onKeyDown={(event) => { if (event.key === 'Escape') { type(''); event.currentTarget.blur(); } }} />
      {text ? (
        <ul class="hits">
          {hits.map(([kind, name, hash]) => <li key={kind + name}><a href={hash} onClick={(event) => { event.preventDefault(); leave(hash); }}><span>{kind}</span> {name}</a></li>)}
          <li><a href={link('requests', { id: text })} onClick={(event) => { event.preventDefault(); leave(link('requests', { id: text })); }}><span>Request id</span> {text}…</a></li>
        </ul>
      ) : null}
    </form>
  );
}

const HELP: [string, string][] = [
  ['?', 'this list'], ['/', 'search'], ['g then n u k b r p a t', 'go to a screen by its first letter'], ['j  k', 'next, previous row'],
  ['Enter', 'details of the row'], ['Esc', 'close'], ['f', 'filter'], ['t', 'tail of requests on or off'], ['.', 'live on or off'], ['y', 'copy the link to what is shown'], ['d', 'light or dark'],
];

function Help({ close }: { close: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => { box.current?.showModal(); }, []);
  return (
    <dialog ref={box} onClose={close} aria-label="Keyboard">
      <h2>Keyboard</h2>
      <dl class="facts">{HELP.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
      <button type="button" onClick={() => box.current?.close()}>Close</button>
    </dialog>
  );
}

/** One letter each, and none while somebody types. */
function useKeys(toggleHelp: () => void) {
  useEffect(() => {
    let gone = 0;
    const key = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if ((event.target as Element).closest('input,textarea,select,dialog')) return;
      const screen = SCREENS.find(([, , letter]) => letter === event.key)?.[0];
      if (gone && Date.now() - gone < 1200 && screen) { gone = 0; event.preventDefault(); event.stopImmediatePropagation(); go(screen); return; }
      gone = 0;
      switch (event.key) {
        case 'g': gone = Date.now(); break;
        case '?': toggleHelp(); break;
        case '/': event.preventDefault(); document.getElementById('search')?.focus(); break;
        case 'f': { const filter = document.querySelector<HTMLInputElement>('[data-filter]'); if (filter) { event.preventDefault(); filter.focus(); } break; }
        case '.': live.toggle(); break;
        case 'd': flip(); break;
        case 'y': navigator.clipboard?.writeText(location.href).catch(() => {}); break;
        case 'Escape': change({ open: null }); break;
        case 'j': case 'k': {
          const rows = [...document.querySelectorAll<HTMLButtonElement>('main button.row')];
          if (!rows.length) break;
          const at = rows.indexOf(document.activeElement as HTMLButtonElement);
          rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === 'j' ? 1 : -1)))]?.focus();
          break;
        }
        default: return;
      }
    };
    window.addEventListener('keydown', key, true);
    return () => window.removeEventListener('keydown', key, true);
  }, []);
}

applyTheme(stored());
render(<App />, document.getElementById('app')!);

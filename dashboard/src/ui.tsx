// The parts that every screen is made of.
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Loaded } from './api';
import { clock, DASH, exact, span, time, words } from './format';
import type { Limit } from './types';

const ICONS: Record<string, string> = {
  now: 'M3 12h4l2.5-7 5 14 2.5-7h4',
  usage: 'M4 20V10m5 10V4m6 16v-8m5 8V7',
  keys: 'M14.5 9.5a4 4 0 1 0-3.6 4L13 15.500l2-.5v2h2v2h3v-3l-5.700-5.700',
  backends: 'M4 4h16v6H4zM4 14h16v6H4zM8 7h.01M8 17h.01',
  requests: 'M4 6h16M4 12h16M4 18h10',
  policies: 'M12 3l8 3v6c0 5-3.500 8-8 9-4.500-1-8-4-8-9V6z',
  audit: 'M7 3h8l4 4v14H7zM10 12h6M10 16h6M14 3v5h5',
  try: 'M5 4l14 8-14 8z',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2m0 16v2M2 12h2m16 0h2M5 5l1.500 1.500m11 11L19 19M5 19l1.500-1.500m11-11L19 5',
  moon: 'M20 14A8 8 0 1 1 10 4a6.500 6.500 0 0 0 10 10z',
  search: 'M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM15.500 15.500L21 21',
  close: 'M6 6l12 12M18 6L6 18',
  help: 'M9 9a3 3 0 1 1 4 2.800c-.7.300-1 .8-1 1.700M12 17h.01',
};

export const Icon = ({ name, size = 18 }: { name: string; size?: number }) => (
  <svg class="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true"><path d={ICONS[name]} /></svg>
);

/** A state as a shape, a colour and a word. */
const SHAPES: Record<string, [string, JSX.Element]> = {
  ok: ['ok', <circle cx="6" cy="6" r="4.5" />],
  degraded: ['warn', <path d="M6 1l5.500 10h-11z" />],
  paused: ['pause', <path d="M2 1.500h3v9H2zM7 1.500h3v9H7z" />],
  down: ['bad', <path d="M1.500 1.500h9v9h-9z" />],
  drained: ['pause', <path d="M6 11L.8 4.500h3.400V1h3.600v3.500h3.400z" />],
  unknown: ['unknown', <circle cx="6" cy="6" r="4" fill="none" stroke-width="2" stroke-dasharray="2.500 1.500" />],
};
const ALIAS: Record<string, string> = {
  active: 'ok', starting: 'unknown', draining: 'drained', revoked: 'down', limited: 'degraded', unused: 'unknown', expired: 'down',
  lost: 'down', connecting: 'unknown', live: 'ok',
};

export function Lamp({ state, label }: { state: string; label?: string | false }) {
  const [kind, shape] = SHAPES[ALIAS[state] ?? state] ?? SHAPES.unknown!;
  return (
    <span class={`lamp ${kind}`}>
      <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>
      {label === false ? <span class="sr">{state}</span> : <span>{label ?? words(state)}</span>}
    </span>
  );
}

/** Status and reason of a request. */
export function Status({ status, reason, side }: { status: number; reason: string | null; side: string | null }) {
  const kind = status < 400 && !reason ? 'good' : side === 'client' || (!side && status < 500) ? 'client' : 'bad';
  return <span class={`status ${kind}`}><b>{status}</b>{reason ? <span> {words(reason)}</span> : null}</span>;
}

/** How much of a limit is used. */
export function Bar({ limit, text = true }: { limit: Limit; text?: boolean }) {
  const share = limit.max ? Math.min(1, limit.used / limit.max) : 1;
  const level = share >= 1 ? 'full' : share >= 0.8 ? 'near' : '';
  return (
    <span class="bar-with">
      <span class={`bar ${level}`} role="img" aria-label={`${Math.round(share * 100)} % used`}>
        <span style={{ width: `${share * 100}%` }} />
      </span>
      {text ? <span class="num">{exact(limit.used)} / {exact(limit.max)}</span> : null}
    </span>
  );
}

export const limitName = (name: string) => ({
  requests_per_minute: 'requests / min', tokens_per_minute: 'tokens / min', in_flight: 'in flight',
}[name] ?? words(name));

/** A line of the last minute, without axes: only its form counts. */
export function Spark({ values, label }: { values: (number | null)[]; label: string }) {
  const width = 120;
  const height = 26;
  const known = values.filter((value): value is number => value !== null);
  const top = Math.max(...known, 1e-9);
  let path = '';
  let pen = false;
  values.forEach((value, index) => {
    if (value === null) { pen = false; return; }
    const x = (index / Math.max(1, values.length - 1)) * width;
    const y = height - 2 - (value / top) * (height - 4);
    path += `${pen ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  });
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path d={path} vector-effect="non-scaling-stroke" />
    </svg>
  );
}

export function Panel({ title, aside, children, className = '', source }: {
  title: string; aside?: ComponentChildren; children: ComponentChildren; className?: string; source?: 'live' | number;
}) {
  return (
    <section class={`panel ${className}`} aria-label={title}>
      <header>
        <h2>{title}</h2>
        {aside}
        {source !== undefined ? <span class="source">{source === 'live' ? 'live' : source ? `as of ${clock(source)}` : ''}</span> : null}
      </header>
      <div class="body">{children}</div>
    </section>
  );
}

/** The error of a panel: its reason, the age of what is shown, and a way to try again. */
export function Trouble({ loaded }: { loaded: Loaded<unknown> }) {
  if (!loaded.error) return null;
  const age = loaded.at ? `; shown is what was read ${span((Date.now() - loaded.at) / 1000)} ago` : '';
  return (
    <p class="trouble" role="alert">
      {loaded.error.message}{age}. <button type="button" class="link" onClick={loaded.again}>Retry</button>
    </p>
  );
}

export function Waiting({ loaded }: { loaded: Loaded<unknown> }) {
  return loaded.data || loaded.error ? null : <p class="waiting">Loading…</p>;
}

export const Empty = ({ children }: { children: ComponentChildren }) => <div class="empty">{children}</div>;

export function Copy({ text, label = 'Copy' }: { text: string; label?: string }) {
  const [done, set] = useState(false);
  return (
    <button type="button" class="small" onClick={async () => {
      try { await navigator.clipboard.writeText(text); } catch { fallbackCopy(text); }
      set(true);
      setTimeout(() => set(false), 1500);
    }}>{done ? 'Copied' : label}</button>
  );
}

/** The clipboard is closed to pages without TLS beyond loopback. */
function fallbackCopy(text: string) {
  const area = document.createElement('textarea');
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

export const Code = ({ text }: { text: string }) => (
  <div class="code"><pre>{text}</pre><Copy text={text} /></div>
);

/** The details of a row, beside the table or over it. */
export function Drawer({ title, kind, onClose, children }: {
  title: string; kind: string; onClose: () => void; children: ComponentChildren;
}) {
  const head = useRef<HTMLHeadingElement>(null);
  const before = useRef<Element | null>(null);
  useEffect(() => {
    before.current = document.activeElement;
    head.current?.focus();
    const key = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.preventDefault();
      onClose();
      if (before.current instanceof HTMLElement && before.current.isConnected) before.current.focus();
    };
    window.addEventListener('keydown', key);
    return () => window.removeEventListener('keydown', key);
  }, [title]);
  return (
    <aside class="drawer" aria-label={`${kind} ${title}`}>
      <header>
        <div><span class="kind">{kind}</span><h2 tabIndex={-1} ref={head}>{title}</h2></div>
        <button type="button" class="ghost" aria-label="Close" onClick={onClose}><Icon name="close" /></button>
      </header>
      <div class="body">{children}</div>
    </aside>
  );
}

export const Facts = ({ rows }: { rows: [string, ComponentChildren][] }) => (
  <dl class="facts">{rows.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value ?? DASH}</dd></div>)}</dl>
);

export interface Column<T> {
  name: string;
  /** Shown as a title of the header. */
  hint?: string;
  cell: (row: T) => ComponentChildren;
  /** What it is sorted by; without it the column cannot be sorted by. */
  sort?: (row: T) => number | string | null;
  num?: boolean;
  /** Left out on a phone. */
  minor?: boolean;
  /** Left out below 1100 px too. */
  wide?: boolean;
  grow?: boolean;
  /** Never broken into lines. */
  tight?: boolean;
  /** Cut where it is long; the whole is in the details. */
  cut?: boolean;
}

/** A table whose rows keep their identity: the row in focus stays where it is. */
export function Table<T>({ rows, columns, id, onOpen, open, caption, initial }: {
  rows: T[]; columns: Column<T>[]; id: (row: T) => string; onOpen?: (row: T) => void; open?: string | null; caption: string;
  initial?: [number, 1 | -1];
}) {
  const [sort, setSort] = useState<[number, 1 | -1] | null>(initial ?? null);
  const key = sort ? columns[sort[0]]?.sort : undefined;
  const sorted = key && sort
    ? [...rows].sort((a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === right) return 0;
      if (left === null) return 1;
      if (right === null) return -1;
      return (left < right ? -1 : 1) * sort[1];
    })
    : rows;
  const of = (column: Column<T>) =>
    [column.num ? 'num' : '', column.minor ? 'minor' : '', column.wide ? 'wide' : '', column.grow ? 'grow' : '', column.tight ? 'tight' : '', column.cut ? 'cut' : ''].join(' ').trim();
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={`${caption}, as a table`}>
      <table>
        <caption class="sr">{caption}</caption>
        <thead>
          <tr>
            {columns.map((column, index) => (
              <th key={column.name} scope="col" class={of(column)} title={column.hint}
                aria-sort={sort?.[0] === index ? (sort[1] === 1 ? 'ascending' : 'descending') : undefined}>
                {column.sort
                  ? <button type="button" onClick={() => setSort(sort?.[0] === index ? [index, sort[1] === 1 ? -1 : 1] : [index, column.num ? -1 : 1])}>
                    {column.name}<span class="order" aria-hidden="true">{sort?.[0] === index ? (sort[1] === 1 ? '↑' : '↓') : ''}</span>
                  </button>
                  : column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((row) => (
            <tr key={id(row)} class={`${onOpen ? 'opens' : ''} ${open === id(row) ? 'open' : ''}`}
              onClick={onOpen ? (event) => { if (!(event.target as Element).closest('a,button')) onOpen(row); } : undefined}>
              {columns.map((column, index) => (
                <td key={column.name} class={of(column)}>
                  {index === 0 && onOpen
                    ? <button type="button" class="row" onClick={() => onOpen(row)}>{column.cell(row)}</button>
                    : column.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export const Tokens = ({ input, cached, output, estimated = false }: {
  input: number | null; cached: number | null; output: number | null; estimated?: boolean;
}) => (
  <span class="tokens" title="input (of it cached) → output">
    {estimated ? '~' : ''}{exact(input)}{cached ? <small> ({exact(cached)})</small> : null} → {exact(output)}
  </span>
);

export const Ttft = ({ p50, p99 }: { p50: number | null; p99: number | null }) =>
  p50 === null ? <>{DASH}</> : <>{time(p50)} <small>/ {time(p99)}</small></>;

// The address after # says what is shown, so that a link shows the same again.
import { useEffect, useState } from 'preact/hooks';

export interface Route { screen: string; params: URLSearchParams }

export function read(): Route {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { screen: path || 'now', params: new URLSearchParams(query) };
}

export function link(screen: string, params: Record<string, string | null | undefined> = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value) query.set(name, value);
  const text = query.toString();
  return `#/${screen}${text ? `?${text}` : ''}`;
}

export function go(screen: string, params: Record<string, string | null | undefined> = {}) {
  location.hash = link(screen, params);
}

/** Changes some of the parameters and keeps the rest. */
export function change(part: Record<string, string | null>) {
  const { screen, params } = read();
  const all: Record<string, string | null> = Object.fromEntries(params.entries());
  const hash = link(screen, { ...all, ...part });
  if (hash !== location.hash) location.hash = hash;
}

export function useRoute(): Route {
  const [route, set] = useState(read);
  useEffect(() => {
    const changed = () => set(read());
    window.addEventListener('hashchange', changed);
    return () => window.removeEventListener('hashchange', changed);
  }, []);
  return route;
}

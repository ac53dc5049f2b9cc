// Numbers and times as people read them. Unknown is a dash, never a zero.

export const DASH = '–';

export function count(value: number | null | undefined, digits = 0): string {
  if (value === null || value === undefined) return DASH;
  if (Math.abs(value) >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
  if (Math.abs(value) >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (Math.abs(value) >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** All digits, grouped. */
export const exact = (value: number | null | undefined) =>
  value === null || value === undefined ? DASH : value.toLocaleString('en-US');

export const rate = (value: number | null | undefined) =>
  value === null || value === undefined ? DASH : value >= 100 ? count(value) : value === 0 ? '0' : value.toFixed(1);

export function time(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return DASH;
  if (seconds < 0.0001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.01) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(0)} ms`;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  return span(seconds);
}

export function span(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined) return DASH;
  if (share === 0) return '0 %';
  return share < 0.1 ? `${(share * 100).toFixed(1)} %` : `${(share * 100).toFixed(0)} %`;
}

export function bytes(value: number): string {
  if (value < 1024) return `${value} B`;
  if (value < 1 << 20) return `${(value / 1024).toFixed(1)} KiB`;
  return `${(value / (1 << 20)).toFixed(1)} MiB`;
}

const two = (value: number) => String(value).padStart(2, '0');

export function clock(ms: number): string {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function moment(ms: number): string {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}`;
}

export function zone(): string {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone || 'local time';
  return name.replace(/_/g, ' ');
}

/** Words for the API's own codes. */
export const words = (code: string) => code.replace(/_/g, ' ');

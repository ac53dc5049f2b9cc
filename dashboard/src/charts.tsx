// Charts over time: uPlot for lines and areas, a canvas for the heat map. All are read anew when the theme changes.
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { clock, count, time } from './format';
import type { History, Second, Series } from './types';

export const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export const hue = (index: number) => css(`--series-${(index % 8) + 1}`);

const font = '11px system-ui, sans-serif';

function useTheme(redraw: () => void) {
  useEffect(() => {
    const media = matchMedia('(prefers-color-scheme: dark)');
    media.addEventListener('change', redraw);
    window.addEventListener('ringway-theme', redraw);
    return () => { media.removeEventListener('change', redraw); window.removeEventListener('ringway-theme', redraw); };
  });
}

export interface Line { name: string; color: string; values: (number | null)[]; fill?: boolean }

/** Lines over time; with `stacked` each stands on the one before. `at` are Unix seconds. */
export function Plot({ at, lines, stacked = false, bars = false, fixed = true, height = 170, summary, unit = count, axis: label = (time) => clock(time * 1000).slice(0, 5) }: {
  at: number[]; lines: Line[]; stacked?: boolean; bars?: boolean; /** The last quarter of an hour, whatever there is of it. */ fixed?: boolean; height?: number;
  summary: string; unit?: (value: number) => string; axis?: (time: number) => string;
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shape = useRef('');

  const data = (): uPlot.AlignedData => {
    const sums = at.map(() => 0);
    const columns = lines.map((line) =>
      stacked ? line.values.map((value, index) => (sums[index]! += value ?? 0)) : line.values);
    return [at, ...(stacked ? columns.reverse() : columns)] as uPlot.AlignedData;
  };

  const build = () => {
    const root = place.current;
    if (!root) return;
    plot.current?.destroy();
    const order = stacked ? [...lines].reverse() : lines;
    const grid = { stroke: css('--grid'), width: 1 };
    const axis = { stroke: css('--dim'), font, grid, ticks: { show: false } };
    plot.current = new uPlot({
      width: root.clientWidth || 400,
      height,
      cursor: { sync: { key: 'ringway' }, points: { show: false }, y: false },
      legend: { show: false },
      scales: { x: { range: (_, min, max) => (fixed ? [max - 900, max] : bars && at.length > 1 ? [min - (at[1]! - at[0]!) / 2, max + (at[1]! - at[0]!) / 2] : [min, max]) }, y: { range: (_, __, max) => [0, Math.max((max ?? 0) * 1.1, 1)] } },
      axes: [
        { ...axis, size: 22, space: 70, values: (_, ticks) => ticks.map(label) },
        { ...axis, size: 44, space: 30, values: (_, ticks) => ticks.map((tick) => unit(tick)) },
      ],
      series: [{}, ...order.map((line) => ({
        label: line.name, stroke: line.color, width: bars ? 0 : 1.5, points: { show: false }, paths: bars ? uPlot.paths.bars!({ size: [0.7, 40] }) : undefined,
        fill: stacked || line.fill ? `${line.color}${bars ? '' : stacked ? 'cc' : '22'}` : undefined,
      }))],
    }, data(), root);
    shape.current = order.map((line) => line.name + line.color).join('|');
  };

  useEffect(() => {
    const wanted = (stacked ? [...lines].reverse() : lines).map((line) => line.name + line.color).join('|');
    if (!plot.current || shape.current !== wanted) build();
    else plot.current.setData(data());
  });
  useEffect(() => {
    const sized = new ResizeObserver(() => {
      const width = place.current?.clientWidth ?? 0;
      if (plot.current && width > 0 && Math.abs(plot.current.width - width) > 1) plot.current.setSize({ width, height });
    });
    if (place.current) sized.observe(place.current);
    return () => { sized.disconnect(); plot.current?.destroy(); plot.current = null; };
  }, []);
  useTheme(build);
  return <div class="plot" role="img" aria-label={summary} style={{ height: `${height}px` }} ref={place} />;
}

export const Legend = ({ lines }: { lines: { name: string; color: string; value?: string }[] }) => (
  <ul class="legend">
    {lines.map((line) => (
      <li key={line.name}><span class="swatch" style={{ background: line.color }} />{line.name}{line.value ? <b>{line.value}</b> : null}</li>
    ))}
  </ul>
);

/** Times to the first token: a column each five seconds, a row each band, dark where many are; the median and p99 on top. */
export function HeatMap({ history, seconds, height = 170 }: { history: History; seconds: Second[]; height?: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const draw = () => {
    const element = canvas.current;
    const context = element?.getContext('2d');
    if (!element || !context) return;
    const scale = devicePixelRatio || 1;
    const width = element.clientWidth;
    element.width = width * scale;
    element.height = height * scale;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const [left, bottom] = [46, 22];
    const [wide, tall] = [width - left - 4, height - bottom - 6];
    const columns = history.columns;
    // Bands that nothing ever fell into would only make the others small.
    const used = history.bands.map((_, band) => columns.some((column) => column[band]! > 0));
    const first = Math.max(0, used.indexOf(true) - 3);
    const last = Math.min(history.bands.length - 1, Math.max(used.lastIndexOf(true) + 3, first + 8));
    const rows = last - first + 1;
    const slots = 900 / history.step_seconds;
    const y = (band: number) => 6 + tall - ((band - first + 1) / rows) * tall;
    const x = (index: number) => left + ((slots - columns.length + index) / slots) * wide;
    context.font = font;
    context.textBaseline = 'middle';
    context.fillStyle = css('--dim');
    context.strokeStyle = css('--grid');
    context.textAlign = 'right';
    const step = Math.max(1, Math.round(rows / 5));
    for (let band = first; band <= last; band += step) {
      const at = Math.round(y(band)) + 0.5;
      context.beginPath();
      context.moveTo(left, at);
      context.lineTo(width - 4, at);
      context.stroke();
      context.fillText(time(history.bands[band]!), left - 6, at);
    }
    context.textAlign = 'center';
    context.textBaseline = 'alphabetic';
    for (let minute = 12; minute >= 3; minute -= 3) {
      const at = left + (1 - (minute * 60) / 900) * wide;
      context.fillText(clock((history.at - minute * 60) * 1000).slice(0, 5), at, height - 6);
    }
    const most = Math.max(1, ...columns.map((column) => Math.max(...column)));
    const [low, high] = [css('--heat-low'), css('--heat-high')];
    columns.forEach((column, index) => {
      column.forEach((value, band) => {
        if (!value || band < first || band > last) return;
        context.globalAlpha = 0.18 + 0.82 * Math.sqrt(value / most);
        context.fillStyle = value / most > 0.5 ? high : low;
        context.fillRect(x(index), y(band), Math.ceil(wide / slots) + 0.5, tall / rows);
      });
    });
    context.globalAlpha = 1;
    const ratio = Math.log(history.bands[1]! / history.bands[0]!);
    const place = (value: number) => {
      const band = Math.log(value / history.bands[0]!) / ratio + 1;
      return 6 + tall - ((band - first) / rows) * tall;
    };
    context.save();
    context.beginPath();
    context.rect(left, 4, wide + 2, tall + 4);
    context.clip();
    for (const [name, color] of [['ttft_p50', '--ink'], ['ttft_p99', '--bad']] as const) {
      context.strokeStyle = css(color);
      context.lineWidth = 1.4;
      context.beginPath();
      let pen = false;
      let window: number[] = [];
      seconds.forEach((second) => {
        const value = second[name];
        if (value !== null) window.push(value);
        if (second.at % history.step_seconds !== 0) return;
        if (!window.length) { pen = false; return; }
        const mean = window.reduce((sum, one) => sum + one, 0) / window.length;
        window = [];
        const at = left + (1 - (history.at - second.at) / 900) * wide;
        if (at < left) return;
        if (pen) context.lineTo(at, place(mean)); else context.moveTo(at, place(mean));
        pen = true;
      });
      context.stroke();
    }
    context.restore();
  };
  useEffect(draw);
  useEffect(() => {
    const sized = new ResizeObserver(draw);
    if (canvas.current) sized.observe(canvas.current);
    return () => sized.disconnect();
  }, []);
  useTheme(draw);
  const recent = seconds.slice(-60).filter((second) => second.ttft_p99 !== null);
  const worst = recent.length ? Math.max(...recent.map((second) => second.ttft_p99!)) : null;
  const summary = worst === null
    ? 'Time to first token, last 15 minutes: no first token in the last minute'
    : `Time to first token, last 15 minutes; the highest p99 of a second in the last minute was ${time(worst)}`;
  return <canvas class="heat" role="img" aria-label={summary} style={{ height: `${height}px` }} ref={canvas} />;
}

/** Steps of the chart by model, aligned at their end. */
export function stepTimes(history: History): number[] {
  const length = Math.max(0, ...history.models.map((series) => series.values.length));
  return Array.from({ length }, (_, index) => history.at - (length - 1 - index) * history.step_seconds);
}

export const aligned = (series: Series, length: number): (number | null)[] =>
  [...Array<null>(length - series.values.length).fill(null), ...series.values];

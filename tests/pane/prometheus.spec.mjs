// The Grafana board and the alert rules: every expression is run by a real Prometheus that scrapes the built gateway.
import { expect, test } from '@playwright/test';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KEY, start } from './gateway.mjs';

const root = new URL('../../', import.meta.url).pathname;
const board = JSON.parse(readFileSync(join(root, 'config/grafana/ringway.json'), 'utf8'));
const rules = join(root, 'config/prometheus/alerts.yml');
const PORT = 19_777;

let gateway;
let prometheus;
let folder;

test.skip(spawnSync('prometheus', ['--version']).error !== undefined, 'there is no prometheus (apt-get install prometheus)');

test.beforeAll(async () => {
  gateway = await start();
  folder = mkdtempSync(join(tmpdir(), 'ringway-prometheus-'));
  writeFileSync(join(folder, 'prometheus.yml'), readFileSync(join(root, 'config/prometheus/prometheus.yml'), 'utf8')
    .replace(/10s/g, '1s').replace('alerts.yml', rules).replace('127.0.0.1:9090', gateway.url.slice(7)));
  prometheus = spawn('prometheus', [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=127.0.0.1:${PORT}`], { stdio: 'ignore' });
  const until = Date.now() + 12_000;
  while (Date.now() < until) {
    await gateway.traffic(3);
    await gateway.chat(KEY, 'orphan');
    await new Promise((then) => setTimeout(then, 500));
  }
});
test.afterAll(async () => {
  prometheus?.kill();
  await gateway?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function query(expression) {
  const response = await fetch(`http://127.0.0.1:${PORT}/api/v1/query?query=${encodeURIComponent(expression)}`);
  const { status, data, error } = await response.json();
  expect(status, `${expression}: ${error}`).toBe('success');
  return data.result;
}

/** As Grafana does with everything selected. */
const filled = (expression) => expression.replace(/\$__rate_interval/g, '10s').replace(/\$(instance|model|backend|key)\b/g, '.*');

/** Every metric that an expression names. */
const named = (expression) => [...expression.matchAll(/\b((?:ringway|gen_ai|process)_[a-z_]+)\b(?=[{[\s)]|$)/g)]
  .map(([, name]) => name).filter((name) => name !== 'gen_ai_request_model'); // a label

/** A metric without a series yet is declared all the same. */
const declared = (page) => new Set([...page.matchAll(/^# TYPE (\S+)/gm)].flatMap(([, name]) => [name, `${name}_bucket`, `${name}_count`, `${name}_sum`]));

test('every expression of the board runs and has data', async () => {
  const expressions = board.panels.flatMap((panel) => (panel.targets ?? []).map(({ expr }) => expr));
  expect(expressions.length).toBeGreaterThan(25);
  const metrics = declared(await (await fetch(`${gateway.url}/metrics`)).text());
  const empty = [];
  for (const expression of expressions) {
    const result = await query(filled(expression));
    for (const name of named(expression)) expect(metrics.has(name), `${name} of ${expression}`).toBe(true);
    if (result.length === 0) empty.push(expression);
  }
  expect(empty).toEqual([]);
});

test('every alert rule is valid, names metrics that are there, and those that should fire do', async () => {
  execFileSync('promtool', ['check', 'rules', rules]);
  const { data } = await (await fetch(`http://127.0.0.1:${PORT}/api/v1/rules`)).json();
  const metrics = declared(await (await fetch(`${gateway.url}/metrics`)).text());
  const all = data.groups.flatMap((group) => group.rules);
  expect(all.length).toBeGreaterThan(12);
  for (const rule of all) {
    expect(rule.health, `${rule.name}: ${rule.lastError}`).toBe('ok');
    for (const name of named(rule.query)) expect(metrics.has(name), `${name} of ${rule.name}`).toBe(true);
  }
  const state = (name) => all.find((rule) => rule.name === name).state;
  // One backend is down and a model has none.
  expect(['pending', 'firing']).toContain(state('RingwayModelWithoutBackend'));
  expect(['pending', 'firing']).toContain(state('RingwayBackendDown'));
  for (const quiet of ['RingwayGone', 'RingwayShedding', 'RingwayShardStill', 'RingwayReloadRefused']) expect(state(quiet), quiet).toBe('inactive');
});

test('the board is what Grafana reads', () => {
  const ids = board.panels.map((panel) => panel.id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const panel of board.panels) {
    expect(panel.gridPos.x + panel.gridPos.w).toBeLessThanOrEqual(24);
    expect(['row', 'stat', 'timeseries', 'heatmap']).toContain(panel.type);
  }
  expect(board.templating.list.map(({ name }) => name)).toEqual(['datasource', 'instance', 'model', 'backend', 'key']);
});

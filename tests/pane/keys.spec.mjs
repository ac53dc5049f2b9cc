// Keys, budgets and backends by a person's path, in a real browser: created, rotated, revoked, set, drained, and who may not.
import { expect, test } from '@playwright/test';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { start, TOKEN } from './gateway.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const shots = new URL('results/screens/', import.meta.url).pathname;
mkdirSync(shots, { recursive: true });

let open;
let closed;
test.beforeAll(async () => {
  open = await start();
  closed = await start({ token: true });
});
test.afterAll(async () => { await open?.stop(); await closed?.stop(); });

async function sound(page, name) {
  await page.evaluate(AXE);
  const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  expect(result.violations.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html).join(' | ')}`), name).toEqual([]);
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `${name} has no sideways scroll`).toBeLessThanOrEqual(0);
}

const shot = (page, name) => page.screenshot({ path: `${shots}${name}.png` });
const api = async (path, init = {}) => (await fetch(`${open.url}/api/v1${path}`, init)).json();
const post = (path, body) => api(path, { method: 'POST', body: JSON.stringify(body) });

test('a key is created, its secret is shown once and serves', async ({ page }) => {
  const bodies = [];
  page.on('response', async (response) => { if (response.request().method() === 'GET' && !response.url().includes('/live')) bodies.push(await response.text().catch(() => '')); });
  await page.goto(`${open.url}/#/keys`);
  await page.getByRole('button', { name: 'New key…' }).click();
  await sound(page, 'the form');
  await page.getByLabel('Name', { exact: true }).fill('press');
  await page.getByRole('combobox', { name: 'Team' }).selectOption('search');
  await page.getByLabel('Models').fill('nothing-*');
  await page.getByRole('button', { name: 'Create key' }).click();
  await expect(page.getByRole('alert')).toContainText('key.press.models[0]: "nothing-*" fits no model');
  await page.getByLabel('Models').fill('llama');
  await page.getByLabel('Requests per minute').fill('600');
  await page.getByLabel('Budget in tokens').fill('1000000');
  await page.getByRole('button', { name: 'Create key' }).click();
  await expect(page.locator('.secret')).toContainText('It is shown only now');
  const secret = await page.locator('.secret-text').textContent();
  expect(secret).toMatch(/^sk-rw-[0-9A-Za-z]{8}-[0-9A-Za-z]{43}$/);
  await sound(page, 'the secret');
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.getByRole('button', { name: 'Copy secret' }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(secret);
  expect((await open.chat(secret, 'llama')).status).toBe(200);
  await page.getByRole('button', { name: 'I have stored it' }).click();
  await expect(page).toHaveURL(/open=press/);
  await expect(page.locator('.drawer')).toContainText('the store of this gateway');
  await expect(page.locator('.drawer')).toContainText('tokens a day');
  await sound(page, 'the key');
  const hidden = secret.slice(15);
  await page.reload();
  await expect(page.locator('.drawer')).toContainText('the store of this gateway');
  bodies.push(await page.content(), open.gateway.said, await page.evaluate(() => JSON.stringify(localStorage) + location.href));
  expect(bodies.some((body) => body.includes(hidden))).toBe(false);
});

test('a key is rotated: both secrets serve until the overlap ends, or the old one ends at once', async ({ page }) => {
  const { secret } = await post('/keys', { name: 'rota' });
  await page.goto(`${open.url}/#/keys?open=rota`);
  await page.getByRole('button', { name: 'Rotate…' }).click();
  await sound(page, 'the question');
  await page.getByRole('button', { name: 'Rotate rota' }).click();
  const second = await page.locator('.secret-text').textContent();
  expect([(await open.chat(secret, 'llama')).status, (await open.chat(second, 'llama')).status]).toEqual([200, 200]);
  await page.getByRole('button', { name: 'I have stored it' }).click();
  await expect(page.locator('.drawer .said')).toContainText('the secret before stays valid until');
  await page.getByRole('button', { name: 'Rotate…' }).click();
  await page.getByLabel('The secret before stays valid for').selectOption('none: it leaked');
  await expect(page.locator('.confirm')).toContainText('refused at once');
  await page.getByRole('button', { name: 'Rotate rota' }).click();
  const third = await page.locator('.secret-text').textContent();
  expect([(await open.chat(second, 'llama')).status, (await open.chat(third, 'llama')).status]).toEqual([401, 200]);
});

test('a key is revoked once its name is typed, and the audit says so', async ({ page }) => {
  const { secret } = await post('/keys', { name: 'gone' });
  expect((await open.chat(secret, 'llama')).status).toBe(200);
  await page.goto(`${open.url}/#/keys?open=gone`);
  await page.getByRole('button', { name: 'Revoke…' }).click();
  await expect(page.locator('.confirm')).toContainText('None of its requests is running. It cannot be undone');
  const revoke = page.getByRole('button', { name: 'Revoke gone' });
  await expect(revoke).toBeDisabled();
  await sound(page, 'the question');
  await shot(page, 'revoke-1280-light');
  await page.getByLabel('Type gone to confirm').fill('gone');
  await revoke.click();
  await expect(page.locator('.drawer .headline').first()).toContainText('revoked');
  expect((await open.chat(secret, 'llama')).status).toBe(401);
  await page.goto(`${open.url}/#/audit`);
  const entry = page.locator('tbody tr').filter({ hasText: 'revoke' }).filter({ hasText: 'key gone' });
  await expect(entry).toHaveCount(1);
  await expect(entry).toContainText('127.0.0.1');
});

test('a budget is set, holds, and is removed', async ({ page }) => {
  const { secret } = await post('/keys', { name: 'spender' });
  await page.goto(`${open.url}/#/keys?open=spender`);
  await page.getByRole('button', { name: 'Set a budget…' }).click();
  await page.getByLabel('Amount').fill('10');
  await page.getByLabel('Zone').fill('Middle/Earth');
  await page.getByRole('button', { name: 'Set budget' }).click();
  await expect(page.getByRole('alert')).toContainText('expected a zone of the IANA database');
  await sound(page, 'the form');
  await page.getByLabel('Zone').fill('Europe/Berlin');
  await page.getByRole('button', { name: 'Set budget' }).click();
  await expect(page.getByRole('region', { name: 'Budgets of spender' })).toContainText('tokens a day, Europe/Berlin');
  await open.chat(secret, 'llama');
  expect((await open.chat(secret, 'llama')).status).toBe(429);
  await page.getByRole('button', { name: 'Remove the budget of tokens a day' }).click();
  await expect(page.getByRole('region', { name: 'Budgets of spender' })).toContainText('None.');
  expect((await open.chat(secret, 'llama')).status).toBe(200);
});

test('a key of the configuration file shows where it is changed, and cannot be changed here', async ({ page }) => {
  await page.goto(`${open.url}/#/keys?open=canary`);
  await expect(page.locator('.drawer')).toContainText('the configuration file; change it there and reload');
  await expect(page.getByRole('button', { name: 'Revoke…' })).toHaveCount(0);
});

test('content rules and their counters are among the policies', async ({ page }) => {
  await page.goto(`${open.url}/#/policies`);
  await expect(page.getByRole('region', { name: 'Content rules' })).toContainText('[guard.NAME]');
});

test('each role sees its screens and buttons, and no others', async ({ page }) => {
  const owner = { authorization: `Bearer ${TOKEN}` };
  const token = async (name, body) => (await (await fetch(`${closed.url}/api/v1/tokens`, { method: 'POST', headers: owner, body: JSON.stringify({ name, ...body }) })).json()).secret;
  const screens = async () => page.getByRole('navigation', { name: 'Screens' }).getByRole('link').allTextContents();
  const enter = async (secret) => {
    await page.context().clearCookies();
    await page.goto(`${closed.url}/#/keys`);
    await page.reload();
    await page.getByLabel('Admin token').fill(secret);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await expect(page.getByRole('heading', { level: 1 })).toHaveText('Keys');
  };
  await enter(await token('viewer', { role: 'viewer' }));
  expect(await screens()).toEqual(['Now', 'Usage', 'Keys', 'Backends', 'Requests', 'Policies', 'Try']);
  await expect(page.getByRole('button', { name: 'New key…' })).toHaveCount(0);
  await page.goto(`${closed.url}/#/audit`);
  await expect(page.getByRole('alert')).toContainText('The role viewer may not see this screen.');
  await page.goto(`${closed.url}/#/backends?open=gpu-a`);
  await expect(page.locator('.drawer')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Drain…' })).toHaveCount(0);
  await enter(await token('anna', { role: 'admin', team: 'search' }));
  expect(await screens()).toEqual(['Usage', 'Keys', 'Try']);
  await expect(page.getByRole('button', { name: 'canary' })).toBeVisible();
  await expect(page.getByRole('button', { name: 'ci', exact: true })).toHaveCount(0);
  await page.getByRole('button', { name: 'New key…' }).click();
  await page.getByLabel('Name', { exact: true }).fill('anna-1');
  await page.getByRole('button', { name: 'Create key' }).click();
  await expect(page.locator('.secret')).toBeVisible();
  await sound(page, 'an admin of a team');
  await enter(await token('audit', { role: 'auditor' }));
  await page.goto(`${closed.url}/#/audit`);
  await expect(page.locator('tbody tr').filter({ hasText: 'token:anna' }).filter({ hasText: 'key anna-1' })).toHaveCount(1);
});

for (const width of [1280, 390]) {
  for (const scheme of ['light', 'dark']) {
    test(`the new screens are sound at ${width} px, ${scheme}`, async ({ browser }) => {
      const name = `sample-${width}-${scheme}`;
      await post('/keys', { name, team: 'search', models: ['llama'], requests_per_minute: 600, tags: ['build'], metadata: { owner: 'a@example.com' }, budgets: [{ tokens: 1_000_000, per: 'day' }, { tokens: 9_000_000, per: 'week', zone: 'Europe/Berlin' }] });
      const context = await browser.newContext({ viewport: { width, height: width === 390 ? 844 : 800 }, colorScheme: scheme });
      const page = await context.newPage();
      await page.goto(`${open.url}/#/keys`);
      await page.getByRole('button', { name: 'New key…' }).click();
      await sound(page, 'create');
      await shot(page, `key-create-${width}-${scheme}`);
      await page.getByLabel('Name', { exact: true }).fill(`made-${width}-${scheme}`);
      await page.getByRole('button', { name: 'Create key' }).click();
      await expect(page.locator('.secret')).toBeVisible();
      await sound(page, 'secret');
      await shot(page, `key-secret-${width}-${scheme}`);
      await page.goto(`${open.url}/#/keys?open=${name}`);
      await expect(page.locator('.drawer')).toContainText('tokens a week, Europe/Berlin');
      await sound(page, 'key');
      await shot(page, `key-${width}-${scheme}`);
      await page.getByRole('button', { name: 'Rotate…' }).click();
      await sound(page, 'rotate');
      await shot(page, `key-rotate-${width}-${scheme}`);
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByRole('button', { name: 'Set a budget…' }).click();
      await sound(page, 'budget');
      await page.locator('.confirm').scrollIntoViewIfNeeded();
      await shot(page, `key-budget-${width}-${scheme}`);
      await context.close();
    });
  }
}

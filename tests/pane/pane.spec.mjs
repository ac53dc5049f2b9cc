// The dashboard by a person's path, in a real browser, against the built gateway.
import { expect, test } from '@playwright/test';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { CI_KEY, CREDENTIAL, KEY, start, TOKEN } from './gateway.mjs';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const SCREENS = ['now', 'usage', 'keys', 'backends', 'requests', 'policies', 'audit', 'try'];
const SECRETS = [KEY, CI_KEY, CREDENTIAL, TOKEN, KEY.slice(18), 'canary-prompt-text'];
const shots = new URL('results/screens/', import.meta.url).pathname;
mkdirSync(shots, { recursive: true });

let open;
let closed;
test.beforeAll(async () => {
  open = await start();
  closed = await start({ token: true });
  await open.traffic();
});
test.afterAll(async () => { await open?.stop(); await closed?.stop(); });

/** A page whose console stays silent and that asks nobody else. */
async function quiet(page, origin) {
  const found = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) found.push(`console: ${message.text()}`); });
  page.on('pageerror', (error) => found.push(`error: ${error.message}`));
  page.on('request', (request) => { if (!request.url().startsWith(origin) && !request.url().startsWith('data:') && !request.url().startsWith('blob:')) found.push(`elsewhere: ${request.url()}`); });
  return found;
}

async function axe(page) {
  await page.evaluate(await import('node:fs').then((fs) => fs.readFileSync(AXE, 'utf8')));
  const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return result.violations.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html).join(' | ')}`);
}

for (const width of [1280, 390]) {
  for (const scheme of ['light', 'dark']) {
    test(`every screen is sound at ${width} px, ${scheme}`, async ({ browser }) => {
      const context = await browser.newContext({ viewport: { width, height: width === 390 ? 844 : 800 }, colorScheme: scheme });
      const page = await context.newPage();
      const found = await quiet(page, open.url);
      for (const screen of [...SCREENS, 'keys?open=canary', 'backends?open=gpu-dead', 'requests?status=failed']) {
        await page.goto(`${open.url}/#/${screen}`);
        await expect(page.locator('main h1')).toHaveCount(1);
        await expect(page.getByText('Loading…')).toHaveCount(0);
        await page.waitForTimeout(400);
        expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `${screen} has no sideways scroll`).toBeLessThanOrEqual(0);
        expect(await axe(page), screen).toEqual([]);
        await page.screenshot({ path: `${shots}${screen.replace(/\W/g, '-')}-${width}-${scheme}.png` });
      }
      expect(found).toEqual([]);
      await context.close();
    });
  }
}

test('the first screen says what is wrong and shows the traffic within a second', async ({ page }) => {
  const before = Date.now();
  await page.goto(open.url);
  await expect(page.locator('.sentence')).toContainText('model orphan has no usable backend');
  await expect(page.locator('.sentence')).toContainText('gpu-dead down (connection refused)');
  expect(Date.now() - before).toBeLessThan(8_000);
  await expect(page.getByRole('button', { name: 'gpu-a' })).toBeVisible();
});

test('why a request was refused is three clicks away', async ({ page }) => {
  for (let index = 0; index < 6; index += 1) await open.chat(CI_KEY, 'orphan');
  await page.goto(open.url);
  await page.getByRole('link', { name: 'Requests' }).first().click();
  await page.getByRole('button', { name: 'status:429' }).click();
  await page.locator('tbody button.row').first().click();
  await expect(page.locator('.explain')).toContainText('Key ci used up its requests: 4 per minute.');
  await expect(page.locator('.explain')).toContainText('requests_per_minute');
  expect(page.url()).toContain('status=429');
});

test('a backend is drained and put back, and both are in the audit', async ({ page }) => {
  await page.goto(`${open.url}/#/backends?open=gpu-a`);
  await page.getByRole('button', { name: 'Drain…' }).click();
  await expect(page.locator('.confirm')).toContainText('gpu-b serves on');
  await page.getByRole('button', { name: 'Drain gpu-a' }).click();
  await expect(page.locator('.drawer .headline')).toContainText(/drained\s*: taken out of service by an operator/);
  const used = async () => (await (await fetch(`${open.url}/api/v1/backends/gpu-a`)).json()).requests;
  const before = await used();
  for (let index = 0; index < 6; index += 1) expect((await open.chat(KEY, 'llama')).status).toBe(200);
  expect(await used()).toBe(before);
  await page.getByRole('button', { name: 'Put back into service' }).click();
  await expect(page.locator('.drawer .headline')).toContainText('ok');
  await page.goto(`${open.url}/#/audit`);
  await expect(page.locator('tbody tr').filter({ hasText: 'undrain' }).filter({ hasText: 'gpu-a' })).not.toHaveCount(0);
});

test('the playground streams with a key, and shows what the gateway recorded', async ({ page }) => {
  await page.goto(`${open.url}/#/try`);
  await page.getByLabel('API key').fill(KEY);
  await page.getByRole('button', { name: 'Send' }).click();
  await expect(page.locator('.outcome')).toContainText('complete, 200');
  await expect(page.locator('.output')).not.toBeEmpty();
  await expect(page.locator('.facts').first()).toContainText(/gpu-[ab]/);
  await page.getByLabel('API key').fill('sk-wrong');
  await page.getByRole('button', { name: 'Send' }).click();
  await expect(page.locator('.outcome')).toContainText('failed, 401');
  await expect(page.locator('.explain')).toContainText('had no API key, or one that is not known');
  await page.locator('select').nth(1).selectOption('messages');
  await page.getByLabel('API key').fill(KEY);
  await page.getByRole('button', { name: 'Send' }).click();
  await expect(page.locator('.outcome')).toContainText('complete, 200');
});

test('the dashboard, the API and /metrics count the same', async ({ page }) => {
  await page.goto(`${open.url}/#/keys?open=canary`);
  const key = await (await fetch(`${open.url}/api/v1/keys/canary`)).json();
  const text = await (await fetch(`${open.url}/metrics`)).text();
  const counted = [...text.matchAll(/ringway_key_requests_total\{key="canary",class="\w+"\} (\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
  expect(key.requests).toBe(counted);
  await expect(page.locator('.drawer')).toContainText(counted.toLocaleString('en-US'));
  const used = await (await fetch(`${open.url}/api/v1/usage?by=key`)).json();
  expect(used.rows.reduce((sum, row) => sum + row.requests, 0)).toBe(used.total.requests);
});

test('the keyboard leads everywhere and stays quiet while somebody types', async ({ page }) => {
  await page.goto(open.url);
  await expect(page.locator('.sentence')).toBeVisible();
  await page.keyboard.press('g');
  await page.keyboard.press('k');
  await expect(page).toHaveURL(/#\/keys/);
  await expect(page.locator('tbody button.row').first()).toBeVisible();
  await page.keyboard.press('j'); // a team
  await page.keyboard.press('j'); // the first key
  await page.keyboard.press('Enter');
  await expect(page.locator('.drawer')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.locator('.drawer')).toHaveCount(0);
  await page.keyboard.press('/');
  await page.keyboard.type('gpu-b');
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/#\/backends\?open=gpu-b/);
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog')).toBeVisible();
});

test('with a token there is nothing to see before the sign-in, and nothing to steal after it', async ({ page, context }) => {
  const found = await quiet(page, closed.url);
  for (const path of ['/api/v1/overview', '/api/v1/live', '/api/v1/keys', '/plain', '/metrics', '/status', '/api/v1/nothing']) {
    expect((await fetch(closed.url + path)).status, path).toBe(401);
  }
  await page.goto(closed.url);
  await page.getByLabel('Admin token').fill('wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('alert')).toContainText('that is not the token');
  expect(await axe(page)).toEqual([]);
  await page.screenshot({ path: `${shots}sign-in.png` });
  await page.getByLabel('Admin token').fill(TOKEN);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('heading', { name: 'No traffic yet' })).toBeVisible();
  const [cookie] = (await context.cookies()).filter((one) => one.name === 'ringway_session');
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: 'Strict', path: '/' });
  expect(await page.evaluate(() => document.cookie)).toBe('');
  expect(await page.evaluate(() => JSON.stringify(localStorage) + JSON.stringify(sessionStorage))).not.toContain('rt-');
  // A write with the cookie alone is refused: another site's page could send it.
  const write = (headers) => page.evaluate(async (lines) => (await fetch('/api/v1/backends/gpu-b/drain', { method: 'POST', headers: lines })).status, headers);
  expect(await write({})).toBe(403);
  expect(await write({ 'x-csrf-token': '0'.repeat(64) })).toBe(403);
  const { csrf } = await page.evaluate(async () => (await fetch('/api/v1/session')).json());
  expect(await write({ 'x-csrf-token': csrf })).toBe(200);
  const foreign = await fetch(`${closed.url}/api/v1/backends/gpu-b/undrain`, { method: 'POST', headers: { cookie: `ringway_session=${cookie.value}`, 'x-csrf-token': csrf, origin: 'https://evil.example' } });
  expect(foreign.status).toBe(403);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(page.getByLabel('Admin token')).toBeVisible();
  expect((await fetch(`${closed.url}/api/v1/overview`, { headers: { cookie: `ringway_session=${cookie.value}` } })).status).toBe(401);
  expect(found.filter((one) => !/status of (401|403)/.test(one))).toEqual([]);
});

test('no secret is in any page, response or log', async ({ page }) => {
  const bodies = [];
  page.on('response', async (response) => { if (!response.url().includes('/live') && !response.url().includes('/try')) bodies.push(await response.text().catch(() => '')); });
  for (const screen of [...SCREENS, 'keys?open=canary', 'backends?open=gpu-a', 'requests?status=failed']) {
    await page.goto(`${open.url}/#/${screen}`);
    await page.waitForTimeout(300);
    bodies.push(await page.content());
  }
  for (const path of ['/plain', '/status', '/metrics', '/api/v1/overview', '/api/v1/history', '/api/v1/requests?limit=200', '/api/v1/keys', '/api/v1/policies', '/api/v1/audit']) {
    bodies.push(await (await fetch(open.url + path)).text());
  }
  bodies.push(open.gateway.said, closed.gateway.said);
  for (const secret of SECRETS) expect(bodies.some((body) => body.includes(secret)), secret).toBe(false);
});

test('every response says what browsers must not do, and is small', async () => {
  for (const path of ['/', '/plain', '/api/v1/overview', '/api/v1/nothing', '/metrics', '/healthz']) {
    const response = await fetch(open.url + path);
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy, path).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toContain('unsafe');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('referrer-policy')).toBe('no-referrer');
    expect((await response.arrayBuffer()).byteLength).toBeLessThanOrEqual(256 * 1024);
  }
});

test('a page of another site and a foreign name get nothing', async () => {
  for (const headers of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'cross-site' }]) {
    expect((await fetch(`${open.url}/api/v1/overview`, { headers })).status).toBe(403);
    expect((await fetch(`${open.url}/api/v1/backends/gpu-a/drain`, { method: 'POST', headers })).status).toBe(403);
  }
});

test('a session begins with a snapshot, and one stream carries everything after it', async ({ page }) => {
  const asked = [];
  page.on('request', (request) => asked.push(new URL(request.url()).pathname));
  await page.goto(open.url);
  await expect(page.locator('.sentence')).toBeVisible();
  await page.waitForTimeout(3000);
  expect(asked.filter((path) => path === '/api/v1/live')).toHaveLength(1);
  expect(asked.filter((path) => path.startsWith('/api/')).sort()).toEqual(['/api/v1/live', '/api/v1/session']);
  await page.keyboard.press('.');
  await expect(page.locator('.feed')).toContainText('paused');
});

test('the plain page needs no script', async ({ browser }) => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${open.url}/plain`);
  await expect(page.getByRole('heading', { level: 1 })).toContainText('ringway on');
  await expect(page.locator('table').nth(1)).toContainText('gpu-a');
  await context.close();
  const text = await (await fetch(`${open.url}/plain`)).text();
  expect(text).toContain('Backends\n  backend');
});

test('a gateway that is gone is said, and what was read stays', async ({ browser }) => {
  const own = await start();
  await own.traffic(4);
  const page = await browser.newPage();
  await page.goto(`${own.url}/#/now`);
  await expect(page.getByRole('button', { name: 'gpu-a' })).toBeVisible();
  await own.stop();
  await expect(page.locator('.feed')).toContainText('connection lost');
  await expect(page.getByRole('button', { name: 'gpu-a' })).toBeVisible();
  await page.close();
});

// Two simulated GPU servers and the built gateway, on ports of their own.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = new URL('../../', import.meta.url).pathname;
const built = process.env.RINGWAY_TARGET ?? join(root, 'target/debug');

// Secrets that no page, response, storage or log may ever hold.
export const KEY = 'sk-rw-canarykey-3f1b7c9d2e5a4b6087c1d9e0f2a3b4c5';
export const CI_KEY = 'sk-rw-canaryci1-9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d';
export const CREDENTIAL = 'canary-backend-credential-77aa01';
export const TOKEN = 'rt-canary-admin-token-51f0c2d9e8b7a6';

const digest = (text) => createHash('sha256').update(text).digest('hex');

const free = () => new Promise((then) => {
  const server = createServer();
  server.listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => then(port)); });
});

async function freePair() {
  for (;;) {
    const port = await free();
    const next = createServer();
    const good = await new Promise((then) => { next.once('error', () => then(false)); next.listen(port + 1, '127.0.0.1', () => next.close(() => then(true))); });
    if (good) return port;
  }
}

export async function start({ token = false } = {}) {
  const [client, admin, sim, dead] = [await free(), await free(), await freePair(), await free()];
  const folder = mkdtempSync(join(tmpdir(), 'ringway-pane-'));
  const file = join(folder, 'ringway.toml');
  writeFileSync(file, `listen = "127.0.0.1:${client}"
[admin]
listen = "127.0.0.1:${admin}"
${token ? `token = { env = "RINGWAY_TEST_TOKEN" }` : ''}
[store]
directory = "${folder}/data"
[backend.gpu-a]
url = "http://127.0.0.1:${sim}"
kind = "vllm"
api_key = { env = "RINGWAY_TEST_CREDENTIAL" }
[backend.gpu-b]
url = "http://127.0.0.1:${sim + 1}"
kind = "vllm"
[backend.gpu-dead]
url = "http://127.0.0.1:${dead}"
kind = "vllm"
[model.llama]
backends = ["gpu-a", "gpu-b"]
[model.orphan]
backends = ["gpu-dead"]
[team.search]
tokens_per_minute = 1_000_000
[key.canary]
sha256 = "${digest(KEY)}"
team = "search"
requests_per_minute = 6_000
[key.ci]
sha256 = "${digest(CI_KEY)}"
models = ["orphan"]
requests_per_minute = 4
`);
  const children = [];
  const run = (name, args, env = {}) => {
    const child = spawn(join(built, name), args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    child.said = '';
    child.stdout.on('data', (text) => { child.said += text; });
    child.stderr.on('data', (text) => { child.said += text; });
    children.push(child);
    return child;
  };
  run('loadtest', ['gpusim', '--listen', `127.0.0.1:${sim}`, '--servers', '2', '--model', 'llama', '--step-ms', '15', '--output-tokens', '40']);
  const gateway = run('ringway', ['serve', file], { RINGWAY_TEST_TOKEN: TOKEN, RINGWAY_TEST_CREDENTIAL: CREDENTIAL });
  const url = `http://127.0.0.1:${admin}`;
  for (let tries = 0; ; tries += 1) {
    const ready = await fetch(`${url}/readyz`).then((response) => response.ok, () => false);
    if (ready) break;
    if (tries > 200 || gateway.exitCode !== null) throw new Error(`the gateway is not ready: ${gateway.said}`);
    await new Promise((then) => setTimeout(then, 100));
  }
  const chat = (key, model, extra = {}) => fetch(`http://127.0.0.1:${client}/v1/chat/completions`, {
    method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model, max_tokens: 20, messages: [{ role: 'user', content: 'canary-prompt-text' }], ...extra }),
  });
  return {
    url, client: `http://127.0.0.1:${client}`, file, gateway, folder, chat,
    async traffic(count = 12) {
      await Promise.all(Array.from({ length: count }, () => chat(KEY, 'llama', { stream: true }).then((response) => response.text())));
      await chat(KEY, 'orphan').then((response) => response.text());
      await chat(CI_KEY, 'llama').then((response) => response.text());
      for (let index = 0; index < 6; index += 1) await chat(CI_KEY, 'orphan').then((response) => response.text());
      await chat('sk-wrong', 'llama').then((response) => response.text());
    },
    async stop() {
      for (const child of children) child.kill('SIGTERM');
      await Promise.all(children.map((child) => new Promise((then) => { if (child.exitCode !== null) then(); else { child.on('exit', then); setTimeout(() => { child.kill('SIGKILL'); then(); }, 15_000); } })));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

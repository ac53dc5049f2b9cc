// Builds the dashboard into build/: one page, one script, one style sheet, named after their content and compressed, so that
// the gateway can carry them. The same sources give the same bytes.
import { build } from 'esbuild';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const root = import.meta.dirname ?? new URL('.', import.meta.url).pathname;
const out = join(root, 'build');
const budget = 150 * 1024;

const built = await build({
  absWorkingDir: root,
  entryPoints: ['src/main.tsx'],
  bundle: true,
  minify: true,
  write: false,
  outdir: 'build',
  format: 'esm',
  target: ['chrome109', 'firefox115', 'safari16'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  charset: 'utf8',
  define: { 'process.env.NODE_ENV': '"production"' },
});

const licences = ['preact', 'uplot']
  .map((name) => {
    const folder = join(root, 'node_modules', name);
    const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return `${name} ${version} (${license})\n\n${readFileSync(join(folder, 'LICENSE'), 'utf8').trim()}\n`;
  })
  .join('\n---\n\n');

const files = new Map();
const name = {};
for (const file of built.outputFiles) {
  const kind = file.path.endsWith('.css') ? 'css' : 'js';
  const hash = createHash('sha256').update(file.contents).digest('hex').slice(0, 10);
  name[kind] = `pane-${hash}.${kind}`;
  files.set(name[kind], Buffer.from(file.contents));
}
const page = readFileSync(join(root, 'src/index.html'), 'utf8')
  .replace('{css}', `/assets/${name.css}`)
  .replace('{js}', `/assets/${name.js}`);
files.set('index.html', Buffer.from(page));
files.set('icon.svg', readFileSync(join(root, 'src/icon.svg')));
files.set('licences.txt', Buffer.from(licences));

mkdirSync(out, { recursive: true });
for (const old of readdirSync(out)) if (old.endsWith('.gz')) rmSync(join(out, old));
let bytes = 0;
for (const [file, content] of files) {
  const packed = gzipSync(content, { level: 9 });
  packed[9] = 255; // the operating system that packed it: unknown, so that every machine writes the same
  bytes += packed.length;
  writeFileSync(join(out, `${file}.gz`), packed);
}
console.log(`dashboard: ${files.size} files, ${(bytes / 1024).toFixed(1)} KiB in gzip of at most ${budget / 1024}`);
if (bytes > budget) process.exit(1);

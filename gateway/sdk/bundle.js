// Joins parts/ to gateway.js, the one module that apps load. `node bundle.js --check` only says whether it is fresh.

import { readFile, writeFile } from 'node:fs/promises';

const TARGET = new URL('gateway.js', import.meta.url);
const HEAD = '// The gateway\'s JavaScript SDK. Made from parts/ by bundle.js; do not edit.\n';
const IMPORT = /^import (?:[^;']+ from )?'\.\/([a-z-]+)\.js';\n/gm;

// What the module gives to apps: everything that errors.js exports as a class, and the client.
const FACE = /^export class (\w+)/gm;

// The parts that `name` needs and it, each after those that it needs itself.
async function collect(name, parts) {
  if (parts.has(name)) return;
  const text = await readFile(new URL(`parts/${name}.js`, import.meta.url), 'utf8');
  for (const [, needed] of text.matchAll(IMPORT)) await collect(needed, parts);
  parts.set(name, text);
}

const parts = new Map();
await collect('client', parts);
const bodies = [...parts].map(([name, text]) => {
  const body = text.replaceAll(IMPORT, '').replaceAll(/^export /gm, '').trim();
  return `\n// parts/${name}.js\n\n${body}\n`;
});
const face = ['Client', ...[...parts.get('errors').matchAll(FACE)].map(([, name]) => name)];
const made = `${HEAD}${bodies.join('')}\nexport {\n${face.map((name) => `  ${name},\n`).join('')}};\n`;

if (process.argv.includes('--check')) {
  if ((await readFile(TARGET, 'utf8')) !== made) {
    console.error('gateway.js is stale: run `node bundle.js`');
    process.exitCode = 1;
  }
} else {
  await writeFile(TARGET, made);
}

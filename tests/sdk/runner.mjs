// Runs pieces of JavaScript for a test: one JSON string a line comes in, one JSON object a line goes out.

import { createInterface } from 'node:readline';

const AsyncFunction = (async () => {}).constructor;
// What a test keeps between its pieces.
globalThis.app = {};
globalThis.sdk = await import(process.argv[2]);

for await (const line of createInterface({ input: process.stdin })) {
  const { number, code } = JSON.parse(line);
  new AsyncFunction(code)().then(
    (value) => console.log(JSON.stringify({ number, value: value ?? null })),
    (error) => console.log(JSON.stringify({ number, error: `${error.name}: ${error.stack}` })),
  );
}

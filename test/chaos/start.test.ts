/** Faults that stop the server at its start: one line that names the fault, and the exit code. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, cpSync, openSync, readdirSync, readSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { main } from '../deploy/helper.js';
import { tinyModel } from './helper.js';

const dir = t.testdir();
const model = tinyModel(dir);

function run(...args: readonly string[]) {
  const all = [main, 'serve', '--host', '127.0.0.1', '--port', '0', '--threads', '1', ...args];
  return spawnSync(process.execPath, all, { encoding: 'utf8', timeout: 60_000 });
}

void t.test('a model without the kernel or for another device is named before the port opens', (t) => {
  for (const [option, value, message] of [
    ['--kernels', 'int4', '--kernels: the model offers fp32, not int4'],
    ['--device', 'cuda', '--device cuda needs a model converted with --kernels fp16 or w8a16 or w4a16'],
  ] as const) {
    const { status, stderr, stdout } = run('--model', model, option, value);
    t.same([status, stderr], [1, `error: ${message}\n`]);
    if (option === '--device') t.equal(stdout, '', 'no line that the server listens');
  }
  t.end();
});

void t.test('a damaged, shortened or missing model file is named, exit code 1', (t) => {
  const files = readdirSync(model).filter((name) => name !== 'manifest.json' && name !== 'README.md');
  t.ok(files.length > 5);
  const damages: [string, RegExp, (file: string) => void][] = [
    ['one bit', /is damaged: SHA-256 [0-9a-f]{64}, the manifest says [0-9a-f]{64}/, flipBit],
    ['shortened', /has \d+ bytes, the manifest says \d+/, shorten],
    ['missing', /is missing|no such file|cannot read/i, rmSync],
  ];
  for (const [what, message, damage] of damages) {
    // One file of each kind: a graph, weights, the tokenizer.
    for (const name of ['embed.onnx', files.find((file) => file.startsWith('weights')) ?? '', 'tokenizer.json']) {
      const broken = join(dir, 'broken');
      cpSync(model, broken, { recursive: true });
      damage(join(broken, name));
      const { status, stderr } = run('--model', broken);
      t.equal(status, 1, `${what}: ${name}`);
      t.match(stderr, name, `${what}: names ${name}`);
      if (name !== 'tokenizer.json') t.match(stderr, message, `${what}: ${name}`);
      t.notMatch(stderr, / {4}at /, 'no stack');
      rmSync(broken, { recursive: true });
    }
  }
  t.end();
});

function shorten(file: string): void {
  truncateSync(file, 1);
}

/** Flips one bit in the middle, so that the size stays the same. */
function flipBit(file: string): void {
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, 40);
  byte[0] = (byte[0] ?? 0) ^ 1;
  writeSync(fd, byte, 0, 1, 40);
  closeSync(fd);
}

void t.test('a port in use is named, exit code 1', async (t) => {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const port = String((other.address() as AddressInfo).port);
  const { status, stderr } = run('--port', port, '--model', model);
  other.close();
  t.equal(status, 1);
  t.match(stderr, `cannot listen on 127.0.0.1 port ${port}: it is in use`);
});

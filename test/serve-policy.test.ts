import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { pino, type Logger } from 'pino';
import t from 'tap';
import { resolveOptions } from '../src/cli/options/config.js';
import { engineOptions, requestPolicy } from '../src/gateway/serve/serve.js';
import { logEngine, warnOfShortContext, warnOfVariables, welcome } from '../src/gateway/serve/startup-log.js';
import { FakeEngine, READY } from './fakes/engine.js';
import { chooseHost, urlOf } from '../src/gateway/serve/address.js';
import { LoadProgress } from '../src/gateway/serve/start-bar.js';
import { movedClock } from './support/moved-clock.js';
import { until } from './support/until.js';

void t.test('the policy of requests comes from flags', async (t) => {
  const policy = { defaultBudget: null, onMiss: 'land', minExit: null, maxExit: null, minAccuracy: 0.5 };
  t.same(requestPolicy(resolveOptions({}, {})), policy);
  const flags = { defaultBudget: '500', onMiss: 'reject', minAccuracy: '0.25' };
  t.same(requestPolicy(resolveOptions(flags, {})), {
    ...{ ...policy, onMiss: 'reject', minAccuracy: 0.25 },
    defaultBudget: { totalMs: 500, ttftMs: null, tpotMs: null, onMiss: null },
  });
});

void t.test('each option of the engine comes from its own flag', async (t) => {
  const flags = {
    ...{ model: '/m', device: 'cuda', threads: '3', kvMemory: '5MiB', maxRunning: '7', maxQueue: '9' },
    ...{ prefillChunk: '11', kernels: 'int4', prefixReuse: 'off', speculate: 'all', cacheDir: '/c' },
    ...{ promptExit: 'off' },
  };
  const told = {
    ...{ modelDir: '/m', device: 'cuda', deviceIndex: 0, threads: 3, kvMemoryBytes: 5 * 2 ** 20 },
    ...{ maxRunning: 7, maxQueue: 9 },
    ...{ prefillChunk: 11, kernels: ['int4'], prefixReuse: false, speculate: 'all', cacheDir: '/c' },
    ...{ promptExit: false },
  };
  t.same(engineOptions(resolveOptions(flags, {})), told);
});

void t.test('the log has the ready engine, unused costs, and the reason why the engine exited', async (t) => {
  const lines: string[] = [];
  const engine = new FakeEngine(() => ({ tokens: [] }));
  logEngine(engine, pino({ base: null, timestamp: false }, { write: (line) => lines.push(line) }));
  const { device, kernels, exits, maxLength, slots, loadMs, calibrateMs } = READY;
  const ready = { ...{ device, kernels, exits, maxLength, slots, loadMs, calibrateMs }, msg: 'engine ready' };
  engine.emit('ready', { ...READY, loadMs: loadMs + 0.4, calibration: { source: 'cache', note: null } });
  engine.emit('ready', { ...READY, calibration: { source: 'measured', note: 'the checksum is wrong' } });
  for (let start = 0; start < 2; start++) engine.emit('ready', { ...READY, kernelFaults: ['int4: no such node'] });
  const down = once(engine, 'down');
  engine.die();
  await down;
  const found = lines.map((line) => JSON.parse(line) as unknown);
  t.strictSame(found, [
    { level: 30, ...ready, costs: 'cache' },
    { level: 30, ...ready, costs: 'measured' },
    { level: 40, reason: 'the checksum is wrong', msg: 'the cache of measured step costs is unusable' },
    { level: 30, ...ready },
    { level: 40, reason: 'int4: no such node', msg: 'a kernel failed to load, the others serve' },
    { level: 30, ...ready },
    { level: 50, reason: 'killed', msg: 'engine down, restarting it' },
  ]);
});

/** @returns the lines that `write` logs */
function logged(write: (log: Logger) => void): object[] {
  const lines: object[] = [];
  write(
    pino({ base: null, timestamp: false }, { write: (line: string) => void lines.push(JSON.parse(line) as object) }),
  );
  return lines;
}

void t.test('a KV budget without room for a chat is logged with the memory that a chat needs', async (t) => {
  const lines = logged((log) => {
    const engine = new FakeEngine(() => ({ tokens: [] }));
    warnOfShortContext(engine, log, 2 ** 20);
    engine.emit('ready', { ...READY, maxLength: 256 });
    engine.emit('ready', { ...READY, maxLength: 17 });
    engine.emit('ready', { ...READY, maxLength: 64, architecture: { ...READY.architecture, context: 64 } });
  });
  const msg = '--kv-memory holds only 17 tokens of prompt and answer; 256 need 16 MB';
  t.strictSame(lines, [{ level: 40, maxLength: 17, neededMb: 16, msg }]);
});

void t.test('an unknown variable is logged, without its value', async (t) => {
  const lines = logged((log) => {
    warnOfVariables({ SORTIE_PROT: 'secret', SORTIE_PORT: '1' }, log);
  });
  const msg = 'SORTIE_PROT is not a variable of an option; did you mean SORTIE_PORT?';
  t.strictSame(lines, [{ level: 40, variable: 'SORTIE_PROT', msg }]);
});

// The address that the server listens on, and the addresses that it shows.

void t.test('the default address depends on keys, and --host wins', async (t) => {
  t.equal(chooseHost(null, 0).address, '127.0.0.1');
  t.equal(chooseHost(null, 1).address, '0.0.0.0');
  t.same(chooseHost('10.0.0.3', 1), { address: '10.0.0.3', reason: 'by --host' });
});

void t.test('the URL of a wildcard or loopback address is localhost, and IPv6 has brackets', async (t) => {
  for (const address of ['0.0.0.0', '::', '127.0.0.1', '::1']) t.equal(urlOf(address, 80), 'http://localhost:80');
  t.equal(urlOf('10.0.0.3', 80), 'http://10.0.0.3:80');
  t.equal(urlOf('fd00::3', 80), 'http://[fd00::3]:80');
});

void t.test('the welcome has a key only where the server needs one', async (t) => {
  const facts = { url: 'http://localhost:1', model: 'm' };
  const open = welcome({ ...facts, needsKey: false });
  t.match(open, 'http://localhost:1/docs');
  t.notMatch(open, 'Authorization');
  t.match(welcome({ ...facts, needsKey: true }), "-H 'Authorization: Bearer YOUR_KEY'");
});

// The bar of a slow load.

function terminal(): { stream: NodeJS.WritableStream; text: () => string } {
  const stream = Object.assign(new PassThrough(), {
    ...{ isTTY: true, columns: 80, cursorTo: () => true, clearLine: () => true, moveCursor: () => true },
  });
  let text = '';
  stream.on('data', (data: Buffer) => (text += data.toString()));
  return { stream, text: () => text };
}

void t.test('a load of more than a second shows its share, and nothing after the end', async (t) => {
  movedClock(t);
  const engine = new FakeEngine(() => ({ tokens: [] }));
  const { stream, text } = terminal();
  const progress = new LoadProgress(engine, stream);
  progress.start();
  engine.emit('loading', 1, 4);
  t.equal(text(), '', 'nothing in the first second');
  await until('shown', () => /loading the model .* 25%/.test(text()));
  engine.emit('loading', 4, 4);
  await until('shown', () => /measuring steps, checking files .* 100%/.test(text()));
  engine.emit('ready', READY);
  const ended = text();
  engine.emit('loading', 1, 4);
  await delay(200);
  t.equal(text(), ended);
});

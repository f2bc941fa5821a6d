import { once } from 'node:events';
import { pino, type Logger } from 'pino';
import t from 'tap';
import { resolveOptions } from '../src/cli/options/config.js';
import { engineOptions, requestPolicy } from '../src/gateway/serve/serve.js';
import { logEngine, warnOfShortContext, warnOfVariables } from '../src/gateway/serve/startup-log.js';
import { FakeEngine, READY } from './fakes/engine.js';

void t.test('the policy of requests comes from flags', async (t) => {
  const policy = { defaultBudget: null, onMiss: 'land', minExit: null, maxExit: null, minAccuracy: 0.5 };
  t.same(requestPolicy(resolveOptions({}, {})), policy);
  const flags = { defaultBudget: '500', onMiss: 'reject', minAccuracy: '0.25' };
  t.same(requestPolicy(resolveOptions(flags, {})), {
    ...{ ...policy, onMiss: 'reject', minAccuracy: 0.25 },
    defaultBudget: { totalMs: 500, ttftMs: null, tpotMs: null, onMiss: null },
  });
});

void t.test('prefixes are shared within a key by default', async (t) => {
  t.equal(resolveOptions({}, {}).prefixReuse, 'key');
  for (const prefixReuse of ['key', 'all', 'off']) {
    const options = resolveOptions({ prefixReuse }, {});
    t.equal(options.prefixReuse, prefixReuse);
    t.equal(engineOptions(options).prefixReuse, prefixReuse !== 'off');
  }
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

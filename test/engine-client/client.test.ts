import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { EngineClient, EngineStartError } from '../../src/gateway/engine-client/client.js';
import { answerRequest } from '../../bench/greedy-request.js';
import { watchdogTimeout } from '../../src/gateway/engine-client/watchdog-timeout.js';
import { Watchdog } from '../../src/util/time-limit.js';
import { engineOptions, greedy, PROMPTS } from '../engine/helper.js';
import { tinyModel } from '../engine/tiny-model.js';
import { until } from '../support/until.js';

const prompt = PROMPTS[0] ?? [];
/** For tests that need no long answers: it starts in a fraction of a second and has 256 positions. */
const tiny = engineOptions({ modelDir: await tinyModel(t, 'float') });
const [one, most] = [[1], 250];

/** Starts a request. @returns its tokens so far, its first one, and how it ends */
function watch(engine: EngineClient, id: string, maxTokens: number, ids = prompt) {
  const tokens: number[] = [];
  const exit = engine.ready?.exits.at(-1) ?? 0;
  const events = engine.generate(answerRequest(greedy(id, ids, exit, maxTokens)));
  const end = (async () => {
    let how = 'silent';
    for await (const each of events)
      for (const event of each) {
        if (event.type === 'token') tokens.push(event.event.token);
        else if (event.type === 'ended' || event.type === 'rejected') how = event.event.reason;
        else if (event.type === 'lost') how = 'lost';
      }
    return how;
  })();
  return { tokens, end, first: () => until('a token', () => tokens.length > 0) };
}

void t.test('a loaded engine is ready only after the file check, and never if the check fails', async (t) => {
  const [waiting, wrong, free] = [new EngineClient(tiny), new EngineClient(tiny), new EngineClient(tiny)];
  t.teardown(() => Promise.all([waiting, wrong, free].map((engine) => engine.close())));
  let check = (): void => undefined;
  const ready = waiting.start(new Promise<void>((resolve) => (check = resolve)));
  const never = wrong.start(Promise.reject(new Error('damaged'))).catch((error: unknown) => error);
  // Started last: when this engine is ready, the others are loaded as well, or nearly.
  await free.start();
  await delay(500);
  t.strictSame([waiting.ready, wrong.ready], [null, null]);
  t.equal(await watch(waiting, 'early', 4).end, 'lost');
  check();
  t.equal((await ready).type, 'ready');
  t.match(await watch(waiting, 'late', 4, one).end, /^(length|stop)$/);
  await wrong.close();
  t.type(await never, EngineStartError);
});

void t.test('the embedded model, with long answers', async (t) => {
  const engine = new EngineClient(engineOptions());
  t.teardown(() => engine.close());
  await engine.start();

  await t.test('cancel ends a sequence with its reason and ignores an unknown id', async (t) => {
    const answer = watch(engine, 'a', 1000);
    await answer.first();
    engine.cancel('unknown', 'cancelled');
    engine.cancel('a', 'cancelled');
    t.equal(await answer.end, 'cancelled');
    t.ok(answer.tokens.length < 1000);
  });

  await t.test('kill -9 mid-stream: the answers are lost, the engine restarts and serves', async (t) => {
    const before = engine.pid;
    const answers = [watch(engine, 'a', 500), watch(engine, 'b', 500)];
    await Promise.all(answers.map(({ first }) => first()));
    const down = once(engine, 'down');
    const back = once(engine, 'ready');
    process.kill(before ?? 0, 'SIGKILL');
    t.strictSame(await Promise.all(answers.map(({ end }) => end)), ['lost', 'lost']);
    await down;
    t.equal(engine.ready, null, 'not ready during the restart');
    t.equal(await watch(engine, 'c', 1).end, 'lost', 'a request during the restart is lost immediately');
    await back;
    t.not(engine.pid, before);
    const again = watch(engine, 'd', 3);
    t.equal(await again.end, 'length');
    t.equal(again.tokens.length, 3);
  });

  await t.test('close stops the process and its answers', async (t) => {
    const pid = engine.pid ?? 0;
    const answer = watch(engine, 'a', 1000);
    await answer.first();
    await engine.close();
    t.equal(await answer.end, 'lost');
    t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  });
});

void t.test('a folder without a model fails the start, without a retry', async (t) => {
  const engine = new EngineClient(engineOptions({ modelDir: t.testdir({}) }));
  await t.rejects(engine.start(), EngineStartError);
  t.equal(engine.pid, null);
});

void t.test('a failed process creation fails the first start, and is retried in a restart', async (t) => {
  const { execPath } = process;
  t.teardown(() => (process.execPath = execPath));
  process.execPath = '/nowhere/node';
  const never = new EngineClient(tiny);
  const failed = never.start();
  await never.close();
  await t.rejects(failed, { name: 'EngineStartError', message: /ENOENT/ });
  t.equal(never.pid, null);

  process.execPath = execPath;
  const engine = new EngineClient(tiny);
  t.teardown(() => engine.close());
  await engine.start();
  process.execPath = '/nowhere/node';
  const reasons: string[] = [];
  engine.on('down', (reason) => {
    reasons.push(reason);
    if (reasons.length === 2) process.execPath = execPath;
  });
  const back = once(engine, 'ready');
  process.kill(engine.pid ?? 0, 'SIGKILL');
  await back;
  t.match(reasons, [/SIGKILL/, /ENOENT/]);
  t.equal(await watch(engine, 'a', 1, one).end, 'length');
});

void t.test('a stopped or stuck engine is killed and restarted', async (t) => {
  const engine = new EngineClient(tiny, 1500);
  t.teardown(() => engine.close());
  await engine.start();
  const before = engine.pid;
  const back = once(engine, 'ready');
  const down = once(engine, 'down');
  process.kill(before ?? 0, 'SIGSTOP');
  const answer = watch(engine, 'a', most, one);
  t.equal(await answer.end, 'lost');
  t.match(await down, [/killed the engine process, which stopped answering/]);
  await back;
  t.not(engine.pid, before);
  t.equal(await watch(engine, 'b', 3, one).end, 'length');
});

void t.test('watchdogTimeout: at least 30 s, or 20 of the longest steps', async (t) => {
  const unit = (ms: number) => ({ unit: 'u', kernel: 'w8a8', decode: [], prefill: [{ rows: 128, context: 0, ms }] });
  const usual = { chunk: 128, context: 2048 };
  t.equal(watchdogTimeout({ units: [unit(20), unit(30)] }, usual), 30_000);
  t.equal(watchdogTimeout({ units: [unit(2_000), unit(3_000)] }, usual), 100_000);
  const long = { chunk: 1024, context: 2048 };
  t.equal(watchdogTimeout({ units: [unit(2_000), unit(3_000)] }, long), 800_000, 'longer chunks');
  t.equal(watchdogTimeout({ units: [unit(2_000)] }, { chunk: 8192, context: 256 }), 80_000, 'at most a sequence');
  const points = [
    { rows: 8, context: 0, ms: 900 },
    { rows: 128, context: 0, ms: 1000 },
    { rows: 128, context: 512, ms: 1500 },
  ];
  const growing = { units: [{ unit: 'u', kernel: 'w8a8', decode: [], prefill: points }] };
  t.equal(watchdogTimeout(growing, { chunk: 128, context: 2560 }), 20 * 3500, 'behind the longest past');
});

void t.test('an engine that does not get ready is killed, and its start fails', async (t) => {
  const engine = new EngineClient(tiny, undefined, 20);
  await t.rejects(engine.start(), { name: 'EngineStartError', message: /killed the engine.* not ready after 20 ms/ });
  t.equal(engine.pid, null);
});

void t.test('an answering engine is left alone, and a suspension of the gateway counts as one check', async (t) => {
  let silent = 0;
  let asked = 0;
  const ask = (): void => {
    if (++asked <= 3) watchdog.heard();
  };
  const watchdog = new Watchdog(ask, () => (silent += 1));
  watchdog.start(120);
  await delay(55);
  const until = performance.now() + 400;
  while (performance.now() < until);
  await delay(1);
  t.equal(silent, 0, 'after a suspension of three times the silence');
  await delay(300);
  t.equal(silent, 1, 'once');
  watchdog.stop();
});

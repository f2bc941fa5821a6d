/** The gateway's end of a silent engine: a script in place of the process, without a model. */
import { once } from 'node:events';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { EngineClient } from '../../src/gateway/engine-client/client.js';
import { answerRequest } from '../../bench/greedy-request.js';
import type { SequenceRequest } from '../../src/protocol/index.js';
import type { EngineOptions } from '../../src/protocol/engine-options.js';
import { engineOptions, greedy } from '../engine/helper.js';

interface Silent {
  readonly engine: EngineClient;
  /** Closes the engine. @returns types of its received messages with their ids, in order */
  readonly received: () => Promise<string[]>;
}

/** An engine that is ready immediately, records its messages and answers none. */
async function silent(t: Test, options: Partial<EngineOptions> = {}, mostStartMs?: number): Promise<Silent> {
  const { execPath } = process;
  const ready = JSON.stringify({ type: 'ready', cost: { units: [] }, maxLength: 1, exits: [1] });
  const dir = t.testdir({
    engine: `#!${execPath}
const { appendFileSync } = require('node:fs');
process.on('message', ({ type, request = { sequences: [] }, ids = request.sequences.map(({ id }) => id) }) => {
  appendFileSync(__dirname + '/received', type + ' ' + ids.join() + '\\n');
});
process.on('disconnect', () => process.exit());
process.send(${ready});
`,
    'package.json': '{"type":"commonjs"}',
    received: '',
  });
  chmodSync(`${dir}/engine`, 0o755);
  process.execPath = `${dir}/engine`;
  const engine = new EngineClient(engineOptions(options), undefined, mostStartMs);
  try {
    await engine.start();
  } finally {
    process.execPath = execPath;
  }
  t.teardown(() => engine.close());
  return {
    engine,
    received: async () => {
      await engine.close();
      return readFileSync(join(dir, 'received'), 'utf8').split('\n').slice(0, -1);
    },
  };
}

/** Starts an answer of one sequence and records its ends. @returns resolves after the last one */
async function generate(engine: EngineClient, request: SequenceRequest, ends: string[] = []): Promise<void> {
  for await (const events of engine.generate(answerRequest(request))) {
    for (const event of events) {
      if (event.type === 'ended') ends.push(`${request.id} ${event.event.reason}`);
      if (event.type === 'lost') ends.push(`${request.id} lost`);
    }
  }
}

/** A budget of a minute with `truncate`. */
const truncated = {
  minExit: 1,
  maxExit: 1,
  budget: { totalMs: 60_000, ttftMs: null, tpotMs: null, onMiss: 'truncate' },
} as const;

const timers = (): number => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length;

void t.test('cancelAll ends each answer immediately and once, and close stops the engine', async (t) => {
  const { engine, received } = await silent(t);
  const ends: string[] = [];
  const before = timers();
  const ids = ['a', 'b'];
  const all = Promise.all(ids.map((id) => generate(engine, greedy(id, [1], 1, 9, { depth: truncated }), ends)));
  t.equal(timers(), before + 2);
  engine.cancelAll('cancelled');
  t.equal(timers(), before, 'no deadline timer is left');
  await all;
  t.same(ends, ['a cancelled', 'b cancelled']);
  engine.cancel('a', 'stop');
  t.same(await received(), ['generate a', 'generate b', 'cancel a,b', 'stop ']);
  t.equal(engine.pid, null);
  t.equal(ends.length, 2, 'no answer is lost as well');
});

void t.test('a truncate deadline ends the answer and cancels it in the engine', async (t) => {
  const { engine, received } = await silent(t);
  const ends: string[] = [];
  const budget = { totalMs: 1, ttftMs: null, tpotMs: null } as const;
  const asking = (id: string, onMiss: 'truncate' | 'continue'): Promise<void> => {
    const depth = { minExit: 1, maxExit: 1, budget: { ...budget, onMiss } };
    return generate(engine, greedy(id, [1], 1, 9, { arrivedAt: monotonicMs(), depth }), ends);
  };
  const cuts: string[] = [];
  engine.on('cut', ({ id }) => cuts.push(`${id}, after ${ends.join()}`));
  const late = asking('late', 'continue');
  const told = once(engine, 'cut');
  await asking('cut', 'truncate');
  await told;
  t.same(cuts, ['cut, after cut deadline'], 'the cut event follows the end of the answer');
  const before = timers();
  const waits = generate(engine, greedy('waits', [1], 1, 9, { depth: truncated }), ends);
  t.equal(timers(), before + 1);
  t.same(await received(), ['generate late', 'generate cut', 'generate waits', 'cancel cut', 'stop ']);
  t.ok(timers() <= before, 'no deadline timer of a lost answer is left');
  engine.cancelAll('cancelled');
  await Promise.all([late, waits]);
  t.same(ends, ['cut deadline', 'late lost', 'waits lost'], 'each once');
});

void t.test('an engine that got ready in time stays alive', async (t) => {
  const { engine } = await silent(t, {}, 4000);
  let downs = 0;
  engine.on('down', () => downs++);
  await delay(4500);
  t.equal(downs, 0);
});

/** The gateway's end of a silent engine: a script in place of the process, without a model. */
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { monotonicMs } from '../../../src/util/clock.js';
import { EngineClient } from '../../../src/engine/client/client.js';
import type { SequenceSink } from '../../../src/engine/client/engine.js';
import type { EngineOptions } from '../../../src/engine/client/options.js';
import type { EndReason } from '../../../src/engine/protocol.js';
import { engineOptions, greedy } from '../helper.js';

interface Silent {
  readonly engine: EngineClient;
  /** Closes the engine. @returns types of its received messages with their ids, in order */
  readonly received: () => Promise<string[]>;
}

/** An engine that is ready immediately, records its messages and answers none. */
async function silent(t: Test, options: Partial<EngineOptions> = {}): Promise<Silent> {
  const { execPath } = process;
  const ready = JSON.stringify({ type: 'ready', cost: { units: [] }, maxLength: 1, exits: [1] });
  const dir = t.testdir({
    engine: `#!${execPath}
const { appendFileSync } = require('node:fs');
process.on('message', ({ type, id = '', ids = [id] }) => {
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
  const engine = new EngineClient(engineOptions(options));
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

/** Records every end of an answer. */
function sinkOf(ends: string[], id: string): SequenceSink {
  const nothing = (): void => undefined;
  const end = (how: EndReason | 'lost'): void => {
    ends.push(`${id} ${how}`);
  };
  return {
    planned: nothing,
    prompt: nothing,
    token: nothing,
    refused: nothing,
    ended: ({ reason }) => {
      end(reason);
    },
    lost: () => {
      end('lost');
    },
  };
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
  for (const id of ['a', 'b']) engine.generate(greedy(id, [1], 1, 9, { depth: truncated }), sinkOf(ends, id));
  t.equal(timers(), before + 2);
  engine.cancelAll('cancelled');
  t.equal(timers(), before, 'no deadline timer is left');
  t.same(ends, ['a cancelled', 'b cancelled']);
  engine.cancel('a', 'stop');
  t.same(await received(), ['generate a', 'generate b', 'cancel a,b', 'stop ']);
  t.equal(engine.pid, null);
  t.equal(ends.length, 2, 'no answer is lost as well');
});

void t.test('a truncate deadline ends the answer and cancels it in the engine', async (t) => {
  const { engine, received } = await silent(t);
  const ends: string[] = [];
  const depth = (onMiss: 'truncate' | 'continue') => ({
    minExit: 1,
    maxExit: 1,
    budget: { totalMs: 1, ttftMs: null, tpotMs: null, onMiss },
  });
  const cuts: string[] = [];
  engine.on('cut', ({ id }) => cuts.push(`${id}, after ${ends.join()}`));
  const arrivedAt = monotonicMs();
  engine.generate({ ...greedy('late', [1], 1, 9), arrivedAt, depth: depth('continue') }, sinkOf(ends, 'late'));
  const cut = new Promise<void>((resolve) => {
    const sink = sinkOf(ends, 'cut');
    engine.generate(
      { ...greedy('cut', [1], 1, 9), arrivedAt, depth: depth('truncate') },
      {
        ...sink,
        ended: (event) => {
          sink.ended(event);
          resolve();
        },
      },
    );
  });
  await cut;
  t.same(ends, ['cut deadline']);
  t.same(cuts, ['cut, after cut deadline'], 'the cut event follows the sink call');
  const before = timers();
  engine.generate(greedy('waits', [1], 1, 9, { depth: truncated }), sinkOf(ends, 'waits'));
  t.equal(timers(), before + 1);
  t.same(await received(), ['generate late', 'generate cut', 'generate waits', 'cancel cut', 'stop ']);
  t.ok(timers() <= before, 'no deadline timer of a lost answer is left');
  engine.cancelAll('cancelled');
  t.same(ends, ['cut deadline', 'late lost', 'waits lost'], 'each once');
});

void t.test('cancelled requests take room until the engine has ended them, and cost it one message', async (t) => {
  const { engine, received } = await silent(t, { maxRunning: 2, maxQueue: 2 });
  const ids = ['a', 'b', 'c', 'd'];
  t.ok(engine.hasRoom('x', 4, 4));
  t.notOk(engine.hasRoom('x', 5, 5), 'slots and queue hold 4 sequences of one client');
  for (const id of ids) engine.generate({ ...greedy(id, [1], 1, 9), tenant: 'x' }, sinkOf([], id));
  for (const id of ids) engine.cancel(id, 'cancelled');
  t.notOk(engine.hasRoom('x', 1, 1), 'the engine has not read the cancels');
  t.ok(engine.hasRoom('y', 2, 2), 'another client finds room');
  t.notOk(engine.hasRoom('y', 3, 3));
  t.ok(engine.unreadMs >= 0);
  t.same(await received(), [...ids.map((id) => `generate ${id}`), 'cancel a,b,c,d', 'stop ']);
  t.ok(engine.hasRoom('x', 4, 4), 'the process is gone with its messages');
  t.equal(engine.unreadMs, 0);
});

/** The gateway's end of an engine that is up and says nothing: a script in its place, without a model. */
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { monotonicMs } from '../../../src/util/clock.js';
import { EngineClient } from '../../../src/engine/client/client.js';
import type { SequenceSink } from '../../../src/engine/client/engine.js';
import type { EndReason } from '../../../src/engine/protocol.js';
import { engineOptions, greedy } from '../helper.js';

interface Silent {
  readonly engine: EngineClient;
  /** Ends the engine. @returns what it was told until then, in order: types of messages with their ids */
  readonly told: () => Promise<string[]>;
}

/** An engine that is ready at once, notes what it is told and answers none of it. */
async function silent(t: Test): Promise<Silent> {
  const { execPath } = process;
  const ready = JSON.stringify({ type: 'ready', cost: { units: [] }, maxLength: 1, exits: [1] });
  const dir = t.testdir({
    engine: `#!${execPath}
const { appendFileSync } = require('node:fs');
process.on('message', ({ type, id = '' }) => {
  appendFileSync(__dirname + '/told', type + ' ' + id + '\\n');
});
process.on('disconnect', () => process.exit());
process.send(${ready});
`,
    'package.json': '{"type":"commonjs"}',
    told: '',
  });
  chmodSync(`${dir}/engine`, 0o755);
  process.execPath = `${dir}/engine`;
  const engine = new EngineClient(engineOptions());
  try {
    await engine.start();
  } finally {
    process.execPath = execPath;
  }
  t.teardown(() => engine.close());
  return {
    engine,
    told: async () => {
      await engine.close();
      return readFileSync(join(dir, 'told'), 'utf8').split('\n').slice(0, -1);
    },
  };
}

/** Notes how an answer ends, each time that it does. */
function sinkOf(ends: string[], id: string): SequenceSink {
  const nothing = (): void => undefined;
  const end = (how: EndReason | 'lost'): void => {
    ends.push(`${id} ${how}`);
  };
  return {
    ...{ planned: nothing, prompt: nothing, token: nothing, refused: nothing },
    ended: ({ reason }) => {
      end(reason);
    },
    lost: () => {
      end('lost');
    },
  };
}

/** A minute, after which the answer is cut. */
const truncated = {
  ...{ minExit: 1, maxExit: 1 },
  budget: { totalMs: 60_000, ttftMs: null, tpotMs: null, onMiss: 'truncate' },
} as const;

const timers = (): number => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length;

void t.test('all answers are cancelled at once, once, and the engine is told; closing ends it', async (t) => {
  const { engine, told } = await silent(t);
  const ends: string[] = [];
  const before = timers();
  for (const id of ['a', 'b']) engine.generate(greedy(id, [1], 1, 9, { depth: truncated }), sinkOf(ends, id));
  t.equal(timers(), before + 2);
  engine.cancelAll('cancelled');
  t.equal(timers(), before, 'none waits for what is over');
  t.same(ends, ['a cancelled', 'b cancelled']);
  engine.cancel('a', 'stop');
  t.same(await told(), ['generate a', 'generate b', 'cancel a', 'cancel b', 'stop ']);
  t.equal(engine.pid, null);
  t.equal(ends.length, 2, 'they are not lost as well');
});

void t.test('a deadline ends an answer that asked for it, and the engine is told', async (t) => {
  const { engine, told } = await silent(t);
  const ends: string[] = [];
  const depth = (onMiss: 'truncate' | 'continue') => ({
    ...{ minExit: 1, maxExit: 1 },
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
  t.same(cuts, ['cut, after cut deadline'], 'and metrics are');
  const before = timers();
  engine.generate(greedy('waits', [1], 1, 9, { depth: truncated }), sinkOf(ends, 'waits'));
  t.equal(timers(), before + 1);
  t.same(await told(), ['generate late', 'generate cut', 'cancel cut', 'generate waits', 'stop ']);
  t.ok(timers() <= before, 'none waits for what was lost');
  engine.cancelAll('cancelled');
  t.same(ends, ['cut deadline', 'late lost', 'waits lost'], 'each once');
});

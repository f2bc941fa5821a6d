/** Exit blocks: a depth is trunk and block, and every change of exit has to catch up in the new block. */
import fc from 'fast-check';
import t from 'tap';
import {
  type SequenceState,
  type Work,
  advanceWork,
  chooseChunk,
  nothingLearned,
  planAsIs,
  predictMs,
  replan,
} from '../../src/router/planner.js';
import { jobOf, missingMs } from '../../src/router/jobs.js';
import { type Outcome, simulate } from '../../src/simulate/engine.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { admit } from './alone.js';
import { arrivals, exactPolicy, noMargin } from './arbitrary.js';
import { blockLayers, blockSample } from './sample.js';

const total = (totalMs: number) => ({ totalMs, ttftMs: null, tpotMs: null, onMiss: 'continue' as const });

/** In the middle of an answer at exit 30, which has no block: nothing was ever processed in any. */
function decoding(totalMs: number, exit = 30): SequenceState {
  const seen = 239;
  const at = blockLayers.indexOf(exit);
  return {
    ...{ id: 'a', arrivedAt: 0, promptLength: 200, generated: 40, maxTokens: 80, minExit: 8, maxExit: 30 },
    ...{ exit, budget: total(totalMs), promised: true, firstTokenAt: 60, lastTokenAt: 300, tokensAtExit: 40 },
    frontier: [
      ...blockLayers.map((_, stage) => (stage <= at ? seen : 0)),
      ...blockLayers.map((layer) => (layer === exit && layer !== 30 ? seen : 0)),
    ],
  };
}
const state = (live: SequenceState[]) => ({
  ...{ now: 300, slots: 16, kvRoom: 1e6, live, waiting: [] },
  learned: { ...nothingLearned, promises: noMargin, told: noMargin },
});
const exitOf = (sequence: SequenceState): number =>
  replan([sequence], state([sequence]), blockSample, exactPolicy).exits[0]?.exit ?? sequence.exit;

void t.test('going shallower costs the catch-up of the block, and is still taken when it has to be', async (t) => {
  const down = advanceWork(decoding(1000).frontier, 0, 239, blockSample, 128);
  t.same(
    down.map(({ positions, from, to }) => [positions, from, to]),
    [[239, 1, undefined]],
    'the block alone, over all positions',
  );
  t.equal(exitOf(decoding(600)), 30, 'time enough');
  t.ok(exitOf(decoding(480)) < 30, 'shallower in time');
});

void t.test('a change of exit is not taken where its catch-up eats what it saves', async (t) => {
  const nearly = {
    ...decoding(330),
    generated: 79,
    maxTokens: 80,
    frontier: decoding(0).frontier.map((at) => at && 278),
  };
  t.equal(exitOf(nearly), 30, 'one token left: deep is cheaper than catching up');
});

/** Deep answers with time enough, whose shallower exits would have to catch up from the start. */
const deep = Array.from({ length: 6 }, (_, i): SequenceState => ({ ...decoding(20_000), id: `deep${i}` }));

/** A short question with so many ms left for its answer. */
const short = (leftMs: number): SequenceState => ({
  ...{
    ...decoding(leftMs + exactPolicy.requestOverheadMs),
    id: 'short',
    arrivedAt: 300,
    promptLength: 20,
    generated: 0,
  },
  ...{ maxTokens: 4, frontier: new Array<number>(10).fill(0), exit: 8, tokensAtExit: 0 },
  ...{ firstTokenAt: null, lastTokenAt: null },
});

void t.test('who is in the way of a tight answer rests; nobody catches up in a shallower block first', async (t) => {
  t.match(admit(short(38), state(deep), blockSample, exactPolicy), { kind: 'admit', bound: true });
  t.match(admit(short(8), state(deep), blockSample, exactPolicy), { kind: 'admit', bound: false }, 'in no time');
  const live = [...deep, short(38)];
  const { exits, paused, plan } = replan(live, state(live), blockSample, exactPolicy);
  t.equal(plan.agenda.lost.size, 0);
  t.strictSame(
    exits.filter(({ id }) => id !== 'short'),
    [],
  );
  t.ok(paused.length >= 3, `${paused.length} rest`);
});

void t.test('a prompt is prefilled in the trunk up to its exit, and in the block', async (t) => {
  const prompt = { ...decoding(900, 8), generated: 0, frontier: new Array<number>(10).fill(0), firstTokenAt: null };
  t.ok((chooseChunk(planAsIs(state([prompt]), blockSample, exactPolicy))?.positions ?? 0) > 0);
  const work = advanceWork(prompt.frontier, 0, 200, blockSample, 128);
  const ms = predictMs(blockSample, { decode: null, prefill: work });
  const deep = predictMs(blockSample, {
    decode: null,
    prefill: advanceWork(prompt.frontier, 4, 200, blockSample, 128),
  });
  t.ok(Math.abs(ms / deep - 10 / 30) < 0.02, `${ms} of ${deep}: 8 layers and 2`);
});

void t.test('what a job misses costs what its pieces cost', async () => {
  const positions = fc.array(fc.nat(200), { minLength: 10, maxLength: 10 });
  const chunks = fc.constantFrom(16, 64, 128, 512);
  fc.assert(
    fc.property(positions, fc.nat(blockLayers.length - 1), chunks, ([first = 0, ...rest], exit, chunk) => {
      // At least one position is there: a prompt's very beginning is priced by a table, in whole grains.
      const frontier = [first + 1, ...rest];
      const sequence = { ...decoding(900), generated: 0, frontier };
      const job = jobOf(sequence, sequence, blockSample, nothingLearned.lengths, exactPolicy);
      const pieces = { decode: null, prefill: advanceWork(frontier, exit, job.target, blockSample, chunk) };
      const expected = predictMs(blockSample, pieces);
      const ms = missingMs(job, exit, blockSample, chunk);
      if (Math.abs(ms - expected) > 1e-9 * expected) throw new Error(`got ${ms}, not ${expected}`);
    }),
    { numRuns: 500 },
  );
});

const runs = { numRuns: 60, seed: 20_26, endOnFailure: true };
const machine = { slots: 8, kvPositions: 1e6, actual: (work: Work) => predictMs(blockSample, work) };

function serve(requests: readonly SimulatedRequest[]): Outcome[] {
  const run = simulate(requests, machine, blockSample, exactPolicy);
  for (let next = run.next(); ; next = run.next()) if (next.done === true) return next.value;
}

void t.test('every answer ends whole, and 98 of 100 promises are kept', async (t) => {
  let promised = 0;
  let kept = 0;
  const depths = new Set<number>();
  for (const requests of fc.sample(arrivals, runs)) {
    const stated = requests.map((request, i): SimulatedRequest => ({
      ...request,
      budget: total(request.budget?.totalMs ?? 300 * (1 + (i % 5))),
    }));
    for (const { admission, request, endedAt, tokens, exits } of serve(stated)) {
      t.equal(tokens, request.tokens);
      for (const layer of exits.keys()) depths.add(layer);
      if (admission.kind !== 'admit' || !admission.feasible) continue;
      promised += 1;
      if (endedAt - request.arrivedAt <= (request.budget?.totalMs ?? 0)) kept += 1;
    }
  }
  t.ok(kept >= 0.98 * promised, `${kept} of ${promised}`);
  t.same(
    [...depths].sort((a, b) => a - b),
    blockLayers,
    'all exits were used',
  );
});

void t.test('on an idle machine a loose budget gets full depth, a tight one the deepest that fits', async (t) => {
  const ask = (totalMs: number): number => {
    const request = { ...decoding(totalMs), generated: 0, promised: true, arrivedAt: 300 };
    const admission = admit(request, state([]), blockSample, exactPolicy);
    return admission.kind === 'admit' ? admission.exit : 0;
  };
  t.equal(ask(5000), 30);
  t.ok(ask(350) < 30 && ask(350) >= 8, `${ask(350)}`);
});

/** Every part of the operator's policy changes what is planned. */
import t from 'tap';
import {
  type Policy,
  type RouterState,
  type WaitingRequest,
  chooseChunk,
  chunkSizes,
  defaultPolicy,
  noDemand,
  noLengths,
  nothingLearned,
  observeArrival,
  observeLength,
  planAsIs,
} from '../../src/router/planner.js';
import { SERVE_OPTIONS } from '../../src/config.js';
import { type Outcome, simulate } from '../../src/simulate/engine.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { predictMs } from '../../src/router/planner.js';
import { admit } from './alone.js';
import { layers, sample } from './sample.js';

const request: WaitingRequest = {
  ...{ id: 'new', arrivedAt: 0, promptLength: 200, generated: 0, maxTokens: 200, exit: 30 },
  ...{ minExit: 10, maxExit: 30 },
  budget: { totalMs: 900, ttftMs: null, tpotMs: null, onMiss: 'continue' },
};
const idle: RouterState = { now: 0, slots: 16, kvRoom: 1e6, live: [], waiting: [], learned: nothingLearned };

function exitOf(state: RouterState, policy: Partial<Policy>): number {
  const admission = admit(request, state, sample, { ...defaultPolicy, ...policy });
  return admission.kind === 'admit' ? admission.exit : 0;
}

void t.test('length quantile: planning for longer answers is shallower', async (t) => {
  let lengths = noLengths;
  for (let i = 1; i <= 100; i += 1) lengths = observeLength(lengths, 200, i * 2);
  const state = { ...idle, learned: { ...nothingLearned, lengths } };
  t.ok(exitOf(state, { lengthQuantile: 0.3 }) > exitOf(state, { lengthQuantile: 1 }));
});

void t.test('foresight: what keeps arriving with tighter budgets takes depth', async (t) => {
  let demand = noDemand;
  const budget = { totalMs: 200, ttftMs: null, tpotMs: null, onMiss: 'continue' } as const;
  for (let at = -3000; at < 0; at += 100) demand = observeArrival(demand, at, 200, 10, budget);
  const loose = { ...request, budget: { ...budget, totalMs: 2000 } };
  const plan = (foresight: number): number => {
    const admission = admit(loose, { ...idle, learned: { ...nothingLearned, demand } }, sample, {
      ...defaultPolicy,
      foresight,
    });
    return admission.kind === 'admit' ? admission.exit : 0;
  };
  t.ok(plan(0) > plan(3), `${plan(0)} and ${plan(3)}`);
});

void t.test('a longer stall allows larger chunks', async (t) => {
  const decoding = {
    ...request,
    ...{ id: 'old', generated: 5, exit: 10, budget: null, firstTokenAt: 0, lastTokenAt: 0, tokensAtExit: 5 },
    frontier: layers.map(() => 204),
  };
  const prompt = {
    ...{ ...request, budget: null, exit: 30, firstTokenAt: null, lastTokenAt: null, tokensAtExit: 0 },
    frontier: layers.map(() => 0),
  };
  const size = (maxStallMs: number): number =>
    chooseChunk(planAsIs({ ...idle, live: [decoding, prompt] }, sample, { ...defaultPolicy, maxStallMs }))?.positions ??
    0;
  t.ok(size(5) > 0);
  t.ok(size(5) < size(500), `${size(5)} and ${size(500)}`);

  const alone = chooseChunk(planAsIs({ ...idle, live: [prompt] }, sample, { ...defaultPolicy, maxStallMs: 5 }));
  const largest = defaultPolicy.chunks.at(-1) ?? 0;
  t.equal(alone?.positions, Math.min(largest, prompt.promptLength), 'nobody decodes: nobody is held up');
});

function serve(requests: readonly SimulatedRequest[], policy: Partial<Policy>): Outcome[] {
  const machine = {
    slots: 16,
    kvPositions: 1e6,
    actual: (work: Parameters<typeof predictMs>[1]) => predictMs(sample, work),
  };
  const run = simulate(requests, machine, sample, { ...defaultPolicy, ...policy });
  for (let next = run.next(); ; next = run.next()) if (next.done === true) return next.value;
}

const burst = (count: number, everyMs: number): SimulatedRequest[] =>
  Array.from({ length: count }, (_, i) => ({
    ...{ id: `r${i}`, arrivedAt: i * everyMs, promptLength: 200, tokens: 40, maxTokens: 40 },
    ...{ budget: null, minExit: null, maxExit: null, budgetClass: 'none' },
  }));
const depths = (outcomes: readonly Outcome[]): number[] => outcomes.flatMap(({ exits }) => [...exits.keys()]);

void t.test('load shedding by depth: without a budget, off keeps full depth, on bends under load only', async (t) => {
  t.ok(depths(serve(burst(60, 20), { shedDepth: false })).every((layer) => layer === 30));
  const shed = serve(burst(60, 20), { shedDepth: true });
  t.ok(depths(shed).some((layer) => layer < 30));
  t.equal(shed.length, 60);
  t.ok(
    depths(serve(burst(3, 2000), { shedDepth: true })).every((layer) => layer === 30),
    'idle: full depth',
  );
});

void t.test('a larger share brings requests without a budget on faster among tight ones', async (t) => {
  const tight = burst(200, 30).map((each) => ({
    ...each,
    budget: { totalMs: 700, ttftMs: null, tpotMs: null, onMiss: 'reject' as const },
  }));
  const free = { ...burst(1, 0)[0], id: 'free', arrivedAt: 500 } as SimulatedRequest;
  const took = (noBudgetShare: number): number =>
    serve(
      [...tight, free].sort((a, b) => a.arrivedAt - b.arrivedAt),
      { noBudgetShare },
    ).find((each) => each.request.id === 'free')?.endedAt ?? Infinity;
  t.ok(took(0.5) < took(0.05), `${took(0.5)} and ${took(0.05)}`);
});

void t.test('what the command line assumes is what the router assumes', async (t) => {
  const { foresight, lengthQuantile, noBudgetShare, maxStall, prefillChunk } = SERVE_OPTIONS;
  const flags = [foresight.default, lengthQuantile.default, noBudgetShare.default, maxStall.default];
  const { maxStallMs } = defaultPolicy;
  t.same(flags, [defaultPolicy.foresight, defaultPolicy.lengthQuantile, defaultPolicy.noBudgetShare, maxStallMs]);
  t.same(defaultPolicy.chunks, chunkSizes(prefillChunk.default));
});

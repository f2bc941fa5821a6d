/** The choice between full depth of a prompt and its exit, beside the exits of answers. */
import t from 'tap';
import {
  type CostModel,
  type DepthShape,
  at,
  costModel,
  deepestFirst,
  predictMs,
} from '../../src/engine/scheduler/cost/model.js';
import type { Budget } from '../../src/protocol/index.js';
import { depthBound, type Expected } from '../../src/engine/scheduler/depth-bound.js';
import { chooseExits } from '../../src/engine/scheduler/exit-choice.js';
import { OutputLengths } from '../../src/engine/scheduler/output-length.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { promiseTimes } from '../../src/engine/scheduler/promise.js';
import { SentenceLength } from '../../src/engine/scheduler/sentence-length.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import { type Occupancy, Snapshot } from '../../src/engine/scheduler/snapshot.js';
import { Utility } from '../../src/engine/scheduler/utility.js';
import { simulatedScheduler, unitsOfShape } from '../simulator/machine.js';
import { type Outcome, type SimulatedStep, simulate } from '../simulator/simulated-engine.js';
import { type Given, natural, prompting, simulated, stateOf, total, unstated } from './fixtures.js';
import { blockShape, blockTable } from './sample.js';

const FULL = 4;
const PROMPT = 5;

/** Twelve layers run for a token of the answer, and a part of one for a token of the prompt. */
const behind = blockTable.units
  .filter(({ unit }) => unit === 'block-18')
  .map(({ kernel, decode, prefill }) => {
    const scaled = (points: typeof decode, share: number) =>
      points.map((point) => ({ ...point, ms: share * point.ms }));
    return { unit: 'prompt-18', kernel, decode: scaled(decode, 6), prefill: scaled(prefill, 0.3) };
  });
const table = { units: [...blockTable.units, ...behind] };

type Changes = Partial<DepthShape['exits'][number]>;

function shapeWith(changes: Changes = {}, isPromptExitMeasured = true): DepthShape {
  const { stage, layer } = { stage: 2, layer: 30 };
  const prompt = { stage, layer, block: 'prompt-18', right: 0.97, promptDepth: 18, ...changes };
  return { ...blockShape, exits: [...blockShape.exits, prompt], hasPromptExit: true, isPromptExitMeasured };
}

const shape = shapeWith();
const units = unitsOfShape(shape);
const model = costModel(table, shape);
const long = { ...natural, promptLength: 2400, promptDepth: 'auto' } as const;

const deepestUnder = (state: Snapshot, expected: Expected): number => depthBound(state, expected).deepest;

function snapshotOf(parts: Partial<Occupancy>, own: CostModel = model): Snapshot {
  const lengths = new OutputLengths(own.shape.exits.length, null, defaultPolicy);
  const utility = new Utility(own.shape, null);
  const sentences = new SentenceLength(defaultPolicy);
  return new Snapshot(stateOf(parts), { model: own, policy: defaultPolicy, lengths, utility, sentences }, Infinity);
}

const begins = (id: string, budget: Budget | null, given: Given = {}): Sequence =>
  prompting(id, budget, { ...long, ...given }, units);

function exitOf(budget: Budget | null, given: Given = {}, own: CostModel = model): number {
  const chosen = chooseExits(snapshotOf({ live: [begins('a', budget, given)] }, own), FULL);
  return at([...chosen.values()], 0);
}

const ttft = (ttftMs: number): Budget => ({ ...unstated, ttftMs });
/** Time for the prompt at an exit, and for a step. */
const firstTokenMs = (exit: number): number =>
  snapshotOf({ live: [begins('a', null)] }).requests[0]?.prefillMs(exit) ?? NaN;
const between = ttft(10 + defaultPolicy.requestOverheadMs + (firstTokenMs(FULL) + firstTokenMs(PROMPT)) / 2);

void t.test('the exits in order of depth', async (t) => {
  t.same(deepestFirst(blockShape), [4, 3, 2, 1, 0]);
  t.same(deepestFirst(shape), [4, 5, 3, 2, 1, 0]);
});

void t.test('a prompt exit saves time of prompts alone', async (t) => {
  t.ok(firstTokenMs(PROMPT) < 0.75 * firstTokenMs(FULL), `${firstTokenMs(PROMPT)} of ${firstTokenMs(FULL)} ms`);
});

for (const [name, budget, given, exit] of [
  ['no budget', null, {}, FULL],
  ['an ample total', total(600_000, 'land'), {}, FULL],
  ['an ample TTFT', ttft(60_000), {}, FULL],
  ['a TTFT with time for one of them', between, {}, PROMPT],
  ['the same for full depth alone', between, { minExit: 30 }, PROMPT],
  ['the same, and the caller states full depth', between, { minExit: 30, promptDepth: null }, FULL],
  ['the same, and the caller states the prompt exit', ttft(60_000), { promptDepth: 18 }, PROMPT],
  ['a hopeless TTFT of full depth: the least work', ttft(1), { minExit: 30 }, PROMPT],
  ['a hopeless TTFT', ttft(1), {}, 0],
  ['an answer at most at exit 23', between, { maxExit: 23 }, 2],
  ['a short prompt', between, { promptLength: 40 }, FULL],
] as const) {
  void t.test(`${name}: exit ${exit}`, async (t) => {
    t.equal(exitOf(budget, given), exit);
  });
}

void t.test('a prompt exit without a measured accuracy is never chosen', async (t) => {
  const unmeasured = costModel(table, shapeWith({}, false));
  t.equal(exitOf(between, { minExit: 30 }, unmeasured), FULL);
  t.not(exitOf(between, {}, unmeasured), PROMPT);
  t.equal(exitOf(between, { promptDepth: 18 }, unmeasured), PROMPT, 'but on request');
});

void t.test('its accuracy is that of its length of prompts', async (t) => {
  const rightByPrompt = [
    [100, 0.99],
    [1000, 0.1],
  ] as const;
  const own = costModel(table, shapeWith({ rightByPrompt }));
  t.equal(exitOf(between, {}, own), 2, 'exit 18 gives more right answers behind so long a prompt');
  const utility = new Utility(own.shape, null);
  for (const [tokens, share] of [
    [0, 0.99],
    [100, 0.99],
    [550, 0.545],
    [1000, 0.1],
    [9000, 0.1],
  ] as const)
    t.ok(Math.abs(utility.accuracy(PROMPT, tokens) - share) < 1e-9, `${tokens} tokens`);
  t.equal(utility.accuracy(FULL, 550), 1);
});

void t.test('exits without right answers behind a prompt are not for it, whatever the budget', async (t) => {
  const none = blockShape.exits.map((exit, i) => (i < 3 ? { ...exit, rightByPrompt: [[500, 0] as const] } : exit));
  const own = costModel(blockTable, { ...blockShape, exits: none });
  const least = (given: Given): number => {
    const { requests } = snapshotOf({ live: [begins('a', ttft(1), given)] }, own);
    return requests[0]?.minExit ?? NaN;
  };
  t.equal(least({}), 3);
  t.equal(least({ maxExit: 13 }), 1, 'but the deepest allowed');
  t.equal(exitOf(ttft(1), {}, own), 3);
});

void t.test(
  'the bound of the load counts right answers behind whole prompts, and not behind the part to prefill',
  async (t) => {
    const points = [[100, 0.9] as const, [500, 0] as const];
    const exits = blockShape.exits.map((exit, i) => (i < 3 ? { ...exit, rightByPrompt: points } : exit));
    const own = costModel(blockTable, { ...blockShape, exits });
    const state = snapshotOf(
      { live: ['a', 'b'].map((id) => begins(id, total(4000, 'land'), { promptLength: 100 })) },
      own,
    );
    const asked = { budgetMs: 4000, maxTokens: 1024, lands: true, count: 3 };
    const boundOf = (promptTokens: number) =>
      deepestUnder(state, { rate: 0.2, promptTokens, positions: 5, asked: [asked] });
    t.ok(boundOf(100) < 3, `exit ${boundOf(100)}`);
    t.ok(boundOf(500) >= 3, `exit ${boundOf(500)}`);
  },
);

void t.test('more budget begins no shallower', async (t) => {
  const depths = deepestFirst(shape);
  for (const budgetOf of [ttft, (ms: number) => total(ms, 'land')]) {
    let before = depths.length;
    const seen = new Set<number>();
    for (let ms = 20; ms < 60_000; ms *= 1.05) {
      const exit = exitOf(budgetOf(ms));
      seen.add(exit);
      t.ok(depths.indexOf(exit) <= before, `${ms} ms: exit ${exit}`);
      before = depths.indexOf(exit);
    }
    t.ok(
      [FULL, PROMPT].every((exit) => seen.has(exit)),
      `exits ${[...seen].join()}`,
    );
  }
});

void t.test('a load takes the prompt exit first', async (t) => {
  const budget = total(4000, 'land');
  const live = ['a', 'b'].map((id) => begins(id, budget));
  const asked = { budgetMs: 4000, maxTokens: 1024, lands: true, count: 1 };
  const depths = deepestFirst(shape);
  const closed = snapshotOf({ live: live.map((_, i) => begins(`c${i}`, budget, { promptDepth: null })) });
  let before = 0;
  const seen = new Set<number>();
  for (let perSecond = 0.05; perSecond < 20; perSecond *= 1.2) {
    const expected = { rate: perSecond / 1000, promptTokens: 1200, positions: 1200, asked: [asked, asked, asked] };
    const rank = depths.indexOf(deepestUnder(snapshotOf({ live }), expected));
    seen.add(at(depths, rank));
    t.ok(rank >= before, `${perSecond}/s: exit ${depths[rank]}`);
    before = rank;
    t.not(deepestUnder(closed, expected), PROMPT, 'not where no request may take it');
  }
  t.ok(seen.has(FULL) && seen.has(PROMPT), `exits ${[...seen].join()}`);
});

void t.test('behind a short prompt the deeper layers of its rows would cost more than it saves', async (t) => {
  const chosen = (promptLength: number, budgetOf: (ms: number) => Budget): boolean =>
    Array.from({ length: 60 }, (_, i) => 40 * 1.1 ** i).some((ms) => exitOf(budgetOf(ms), { promptLength }) === PROMPT);
  const landing = (ms: number): Budget => total(ms, 'land');
  t.ok(chosen(2400, landing));
  t.notOk(chosen(60, landing));
  t.ok(chosen(400, ttft), 'a budget of the first token counts the prompt alone');
});

void t.test('a bound of prompts leaves a prompt of full depth its exits', async (t) => {
  const live = [begins('a', total(60_000, 'land')), begins('b', total(60_000, 'land'), { promptDepth: null })];
  t.same([...chooseExits(snapshotOf({ live }), PROMPT).values()], [PROMPT, FULL]);
});

void t.test('a promise of full depth counts on the prompt exit', async (t) => {
  const lateOf = (promptDepth: 'auto' | null) => {
    const live = [begins('a', between, { minExit: 30, promptDepth })];
    return [...promiseTimes(snapshotOf({ live }), 1).values()].map(({ lateMs }) => lateMs !== null);
  };
  t.same(lateOf('auto'), [false]);
  t.same(lateOf(null), [true]);
});

/** Twelve long prompts that arrive faster than full depth reads them. */
function served(own: DepthShape): { readonly outcomes: Outcome[]; readonly steps: SimulatedStep[] } {
  const machine = {
    ...{ slots: 8, kvPositions: 1e6 },
    actual: (work: Parameters<typeof predictMs>[1]) => predictMs(costModel(table, own), work),
  };
  const scheduler = simulatedScheduler(machine, { shape: own, table, policy: defaultPolicy });
  const budget = { ...ttft(700), onMiss: 'continue' } as const;
  const requests = Array.from({ length: 12 }, (_, i) =>
    simulated(`r${i}`, 250 * i, budget, { promptLength: 1200, minExit: 30, lengths: own.exits.map(() => 40) }),
  );
  const run = simulate(requests, machine, scheduler);
  const steps: SimulatedStep[] = [];
  for (let next = run.next(); ; next = run.next()) {
    if (next.done === true) return { outcomes: next.value, steps };
    steps.push(next.value);
  }
}

void t.test(
  'under load, more first tokens are in time than at full depth alone, and each answer keeps its depth',
  async (t) => {
    const inTime = ({ outcomes }: ReturnType<typeof served>): number =>
      outcomes.filter(({ firstTokenAt, request }) => (firstTokenAt ?? Infinity) <= request.arrivedAt + 700).length;
    const routed = served(shape);
    const full = served(shapeWith({}, false));
    t.ok(inTime(routed) >= inTime(full) + 2, `${inTime(routed)} and ${inTime(full)} of 12`);
    const exits = new Map<string, Set<number>>();
    for (const { plan } of routed.steps)
      for (const { id, exit } of plan.rows) exits.set(id, (exits.get(id) ?? new Set()).add(exit));
    t.ok(
      [...exits.values()].some((each) => each.has(PROMPT)),
      'some take it',
    );
    for (const [id, { size }] of exits) t.equal(size, 1, id);
  },
);

/**
 * Audits in the simulator: the router serves by estimates that begin wrong, with two exits exchanged, or right. Each
 * ended answer is audited at the exit whose turn it is, as the engine does.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/config.js';
import { costModel, predictMs } from '../../src/cost/model.js';
import { ExitQuality } from '../../src/quality/exit-quality.js';
import { defaultPolicy, Router } from '../../src/router/index.js';
import { parseCostFile } from '../../src/simulate/costs.js';
import { type Outcome, simulate } from '../../src/simulate/engine.js';
import { isMet } from '../../src/simulate/report.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { budgetOf, classesFor } from '../../src/simulate/workload.js';
import { seeded } from '../../src/util/random.js';

const { cost, shape } = parseCostFile(readFileSync(join(packageRoot, 'bench', 'planner', 'costs.json'), 'utf8'));
const model = costModel(cost, shape);
const TRUE = shape.exits.map(({ quality }) => quality);
const deepest = TRUE.length - 1;
/** Answers before the comparison. */
const AUDITED = 500;
const REQUESTS = 800;
/** Arrivals and budgets so tight that the router uses all exits: multiples of full depth's rate and time alone. */
const LOAD = 3;
const TIME = 0.4;
const GROUP = { kind: 'chat', key: null };

function workload(seed: number): SimulatedRequest[] {
  const random = seeded(seed);
  const rows = shape.exits.map((_, exit) => (exit === deepest ? 1 : 0));
  const stepMs = predictMs(model, { decode: { rows, context: 200 }, prefill: [] });
  const classes = classesFor(0.5, stepMs * TIME);
  let atMs = 0;
  return Array.from({ length: REQUESTS }, (_, i) => {
    const promptLength = 20 + Math.floor(random() * 200);
    const tokens = 20 + Math.floor(random() * 80);
    atMs += (-Math.log(1 - random()) * (stepMs * 60)) / LOAD;
    const budgetClass = classes[Math.floor(random() * classes.length)];
    return {
      id: `r${i}`,
      ...{ arrivedAt: atMs, promptLength, lengths: TRUE.map(() => tokens), maxTokens: tokens, isExactLength: false },
      lengthGroup: { kind: 'chat', key: null },
      budget: budgetClass === undefined ? null : budgetOf(budgetClass, promptLength, tokens),
      ...{ minExit: null, maxExit: null, budgetClass: budgetClass?.name ?? '' },
    };
  });
}

/** One audit at an exit, at its true agreement with the served full depth. */
function audit(quality: ExitQuality, exit: number, tokens: number, random: () => number): void {
  const share = (TRUE[exit] ?? 0) / (TRUE[deepest] ?? 1);
  const agreeing = Array.from({ length: tokens }, () => random() < share).filter(Boolean).length;
  quality.observe(GROUP, shape.exits[exit]?.layer ?? 0, agreeing, tokens);
}

interface Served {
  /** Mean true quality of the tokens after AUDITED answers. */
  readonly quality: number;
  readonly attainment: number;
  readonly estimates: readonly number[];
}

/** @param priors quality that the model claims. @param audits whether audits correct it */
function serve(seed: number, priors: readonly number[], audits: boolean): Served {
  const random = seeded(seed + 1000);
  const quality = new ExitQuality(shape.exits.map(({ layer }, i) => ({ layer, agreement: priors[i] })));
  // Every request sees the estimates of the moment.
  const estimates = quality.of(GROUP);
  let audited = 0;
  const router = new Router(shape, cost, defaultPolicy);
  const learn = router.observeEnd.bind(router);
  router.observeEnd = (request, admission, end) => {
    learn(request, admission, end);
    const exit = audited++ % deepest;
    if (!audits) return;
    audit(
      quality,
      exit,
      end.path.reduce((sum, part) => sum + part.tokens, 0),
      random,
    );
    estimates.splice(0, estimates.length, ...quality.of(GROUP));
  };
  const requests = workload(seed).map((request) => ({ ...request, quality: estimates }));
  const machine = {
    slots: 16,
    kvPositions: 1e6,
    actual: (work: Parameters<typeof predictMs>[1]) => predictMs(model, work),
  };
  const run = simulate(requests, machine, router, model, defaultPolicy);
  let outcomes: Outcome[] = [];
  for (let next = run.next(); outcomes.length === 0; next = run.next()) if (next.done === true) outcomes = next.value;
  const later = outcomes.slice(AUDITED);
  const parts = later.flatMap(({ path }) => path);
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  const worth = parts.reduce((sum, part) => {
    return sum + part.tokens * (TRUE[shape.exits.findIndex(({ layer }) => layer === part.exit)] ?? 0);
  }, 0);
  return { quality: worth / tokens, attainment: later.filter(isMet).length / later.length, estimates };
}

function exchanged(a: number, b: number): number[] {
  return TRUE.map((value, exit) => TRUE[exit === a ? b : exit === b ? a : exit] ?? value);
}

/** Means over two seeds: attainment of one run varies by two points. */
function served(priors: readonly number[], audits: boolean): Pick<Served, 'quality' | 'attainment'> {
  const [first, second] = [serve(1, priors, audits), serve(2, priors, audits)];
  return {
    quality: (first.quality + second.quality) / 2,
    attainment: (first.attainment + second.attainment) / 2,
  };
}

void t.test('with two exits exchanged, routed quality recovers within 500 audited answers', async (t) => {
  const right = served(TRUE, false);
  const wrong = served(exchanged(0, 3), false);
  const recovered = served(exchanged(0, 3), true);
  t.ok(wrong.quality < right.quality - 0.01, `the wrong prior costs quality: ${wrong.quality} of ${right.quality}`);
  t.ok(recovered.quality > right.quality - 0.004, `audits win it back: ${recovered.quality}`);
  t.ok(Math.abs(recovered.attainment - right.attainment) < 0.025, `${recovered.attainment} of ${right.attainment}`);
  const audited = served(TRUE, true);
  t.ok(Math.abs(audited.quality - right.quality) < 0.004, `with a right prior they change nothing: ${audited.quality}`);
  t.ok(Math.abs(audited.attainment - right.attainment) < 0.025, `${audited.attainment} of ${right.attainment}`);
});

void t.test('the order of any two exchanged exits is right after 500 audited answers', async (t) => {
  for (const [a, b] of [
    ...[0, 1, 2].map((exit) => [exit, exit + 1] as const),
    ...[[0, 2] as const, [1, 3] as const, [0, 3] as const],
  ]) {
    const random = seeded(a * 7 + b);
    const quality = new ExitQuality(shape.exits.map(({ layer }, i) => ({ layer, agreement: exchanged(a, b)[i] })));
    for (let i = 0; i < AUDITED; i++) audit(quality, i % deepest, 60, random);
    const estimates = quality.of(GROUP);
    t.same(
      [...estimates].sort((x, y) => x - y),
      estimates,
      `exits ${a} and ${b}: ${estimates.join(', ')}`,
    );
  }
});

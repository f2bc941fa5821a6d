/**
 * Audits move the scheduler's choice: it serves by estimates that begin wrong, with two exits exchanged, or right. Each
 * ended answer is audited at the exit whose turn it is, as the engine does.
 */
import t from 'tap';
import { ExitQuality } from '../../src/gateway/quality/exit-quality.js';
import { seeded } from '../../src/util/random.js';
import { admitted, asking, natural, plannerOf, total } from '../scheduler/fixtures.js';
import { layers, quality as TRUE, right } from '../scheduler/sample.js';

const deepest = TRUE.length - 1;
/** Answers before the comparison, and tokens of each. */
const AUDITED = 500;
const TOKENS = 60;
const GROUP = { kind: 'chat', key: null };

/** Estimates of a model that claims these qualities, after audited answers. */
function estimatesOf(priors: readonly number[], answers: number, seed = 1): number[] {
  const random = seeded(seed);
  const estimates = new ExitQuality(layers.map((layer, i) => ({ layer, agreement: priors[i] })));
  for (let i = 0; i < answers; i += 1) {
    const exit = i % deepest;
    // An audit measures the agreement with the served full depth.
    const share = (TRUE[exit] ?? NaN) / (TRUE[deepest] ?? NaN);
    const agreeing = Array.from({ length: TOKENS }, () => random() < share).filter(Boolean).length;
    estimates.observe(GROUP, layers[exit] ?? NaN, agreeing, TOKENS);
  }
  return estimates.of(GROUP);
}

function exchanged(a: number, b: number): number[] {
  return TRUE.map((value, exit) => TRUE[exit === a ? b : exit === b ? a : exit] ?? value);
}

/** Exit that answers of each budget begin with, under some estimates. */
function choices(quality: readonly number[]): number[] {
  const exits: number[] = [];
  for (let ms = 100; ms < 1500; ms *= 1.1) {
    exits.push(admitted(plannerOf(), asking('a', total(ms, 'land'), { ...natural, quality })).exit);
  }
  return exits;
}
const best = choices(TRUE);
/** Share of budgets whose answers begin with another exit than by the true qualities. */
const wrongOf = (exits: readonly number[]): number => exits.filter((exit, i) => exit !== best[i]).length / best.length;

void t.test('right qualities use several exits, and those of the model itself choose the same', async (t) => {
  t.ok(new Set(best).size >= 2, best.join(', '));
  t.equal(right.length, layers.length);
  t.equal(wrongOf(choices(estimatesOf(TRUE, 0))), 0);
});

for (const [a, b] of [
  [0, 1],
  [0, 3],
] as const) {
  void t.test(
    `with exits ${a} and ${b} exchanged, the choice recovers within ${AUDITED} audited answers`,
    async (t) => {
      const wrong = wrongOf(choices(estimatesOf(exchanged(a, b), 0)));
      const recovered = wrongOf(choices(estimatesOf(exchanged(a, b), AUDITED)));
      t.ok(wrong > 0.1, `the wrong prior changes ${wrong} of the choices`);
      t.ok(recovered <= 0.05 || recovered < 0.4 * wrong, `${recovered} after audits, ${wrong} before`);
    },
  );
}

void t.test('with a right prior audits change hardly a choice', async (t) => {
  const moved = wrongOf(choices(estimatesOf(TRUE, AUDITED)));
  t.ok(moved <= 0.08, `${moved} of the choices`);
});

for (const [a, b] of [
  [0, 1],
  [1, 2],
  [2, 3],
  [0, 2],
  [1, 3],
  [0, 3],
] as const) {
  void t.test(`the order of exits ${a} and ${b}, exchanged, is right after ${AUDITED} audited answers`, async (t) => {
    const estimates = estimatesOf(exchanged(a, b), AUDITED, a * 7 + b);
    t.same(
      estimates,
      [...estimates].sort((x, y) => x - y),
    );
  });
}

/** Hints: which requests ask for a short answer, and how short. */
import t from 'tap';
import type { Budget, HintedPrompt } from '../../src/protocol/index.js';
import { hintedPrompt } from '../../src/protocol/request.js';
import { chooseHints } from '../../src/engine/scheduler/hint-choice.js';
import { OutputLengths } from '../../src/engine/scheduler/output-length.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { Occupancy } from '../../src/engine/scheduler/snapshot.js';
import { simulatedScheduler } from '../simulator/machine.js';
import { type Given, NOW, answering, asking, natural, prior, snapshot, total, units } from './fixtures.js';
import { layers, shape, table } from './sample.js';

/** Answers of 20, 40 and 60 tokens; without a hint the median is 100. */
const HINTS: readonly HintedPrompt[] = [40, 20, 60].map((tokens) => ({ shared: 195, rest: [8, 9, 7, 7], tokens }));

function hinted(id: string, budget: Budget | null, given: Given = {}, hints = HINTS): Sequence {
  const { request } = asking(id, budget, { ...natural, ...given });
  return new Sequence({ ...request, hints }, units.exits);
}

/** Median tokens of the chosen hint; null for none. */
function chosen(budget: Budget | null, given: Given = {}, parts: Partial<Occupancy> = {}): number | null {
  const sequence = hinted('a', budget, given);
  const found = chooseHints(snapshot({ ...parts, waiting: [sequence] }), [sequence]).get(sequence);
  return found === undefined ? null : (HINTS[found]?.tokens ?? NaN);
}

void t.test(
  'an idle machine with budget for the answer needs no hint, and less budget has a shorter one',
  async (t) => {
    t.equal(chosen(null), null);
    t.equal(chosen(total(60_000, 'land')), null);
    let before = Infinity;
    const seen = new Set<number | null>();
    for (let ms = 2000; ms > 50; ms *= 0.9) {
      const tokens = chosen(total(ms, 'land'));
      t.ok((tokens ?? 100) <= before, `${ms} ms: ${tokens} after ${before}`);
      before = tokens ?? 100;
      seen.add(tokens);
    }
    t.strictSame([...seen], [null, 60, 40, 20]);
  },
);

void t.test('the budget of an idle machine is too small beside others', async (t) => {
  const budget = total(1200, 'land');
  t.equal(chosen(budget), null);
  const live = Array.from({ length: 12 }, (_, i) => answering(`r${i}`, null, { ...natural, maxTokens: 400 }));
  t.equal(typeof chosen(budget, {}, { live }), 'number');
});

void t.test('an answer that max_tokens ends has no hint, nor one with longer answers than expected', async (t) => {
  const tight = total(300, 'land');
  t.equal(typeof chosen(tight), 'number');
  t.equal(chosen(tight, { maxTokens: 16 }), null);
  const sequence = hinted('b', tight, {}, [{ shared: 195, rest: [8], tokens: 150 }]);
  t.equal(chooseHints(snapshot({ waiting: [sequence] }), [sequence]).size, 0);
});

void t.test('a request without a turn in its budget has the shortest answer', async (t) => {
  t.equal(chosen(total(1, 'truncate')), 20);
});

void t.test('the lengths of hinted answers have their own median, and teach others nothing', async (t) => {
  const lengths = new OutputLengths(layers.length, prior, defaultPolicy);
  const median = (kind: 'chat' | number) => lengths.of(kind, 'a').at(-1)?.quantile(0.5, 0, 1024);
  t.equal(median(20), 20);
  for (let i = 0; i < 50; i += 1) lengths.observe(20, 'a', 4, 6, true);
  t.ok((median(20) ?? 99) < 12);
  t.equal(median('chat'), 100);
  t.equal(median(60), 60);
});

void t.test('a scheduler serves the prompt of the hint, and the plan names it', async (t) => {
  const machine = { slots: 4, kvPositions: 1e6, actual: () => 5 };
  const priors = { lengths: prior, partialValue: null };
  const scheduler = simulatedScheduler(machine, { shape, table, policy: defaultPolicy, priors });
  const ample = hinted('ample', total(60_000, 'land'));
  const tight = hinted('tight', total(500, 'land'));
  const sequences = [ample, tight].map(({ request }) => scheduler.add(request));
  const { admitted } = scheduler.schedule(NOW);
  const plans = new Map(admitted.map(({ id, ...plan }) => [id, plan]));
  t.equal(plans.get('ample')?.hint, undefined);
  const hint = plans.get('tight')?.hint ?? NaN;
  const taken = sequences[1];
  const form = HINTS[hint];
  if (taken === undefined || form === undefined) throw new Error('the tight request has no hint');
  t.strictSame(taken.tokens, hintedPrompt(tight.request.prompt, form));
  t.equal(taken.promptLength, 199);
  t.equal(taken.generated, 0);
  t.ok((plans.get('tight')?.expectedTokens ?? 99) <= form.tokens);
  t.equal(plans.get('ample')?.expectedTokens, 100);
});

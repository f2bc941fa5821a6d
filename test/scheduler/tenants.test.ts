/** Texts of several kinds by one key: long lines of some change few promises of the others. */
import t from 'tap';
import type { AnswerKind } from '../../src/protocol/index.js';
import { isGuaranteed, isMet } from '../simulator/outcomes.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { seeded } from '../../bench/loadgen/random.js';
import { serve, simulated, total } from './fixtures.js';
import { layers } from './sample.js';

const PROSE = 60;
/** A usual chat at full depth by itself: .3 ms a position, 5.3 ms a token. */
const ALONE_MS = 0.3 * 60 + 5.3 * 60;

/** Poisson arrivals of one key at load 1: four fifths are prose. @param code the group of the rest; null: there is none */
function mixed(code: AnswerKind | null): SimulatedRequest[] {
  const text = { promptLength: 40, maxTokens: 1024, isExactLength: false, tenant: 'one' } as const;
  const arrivals = (count: number, load: number, seed: number, of: (i: number, random: () => number) => object) => {
    const random = seeded(seed);
    let at = 0;
    return Array.from({ length: count }, (_, i) => {
      at += (ALONE_MS / load) * -Math.log(1 - random());
      return simulated(`${seed}-${i}`, at, total(ALONE_MS * (1 + (i % 4)), 'land'), { ...text, ...of(i, random) });
    });
  };
  const prose = arrivals(PROSE, 0.8, 1, (_, random) => {
    const tokens = Math.min(300, Math.max(8, Math.ceil(-70 * Math.log(1 - random()))));
    return { lengths: layers.map(() => tokens), sentenceTokens: 10 + Math.floor(14 * random()) };
  });
  if (code === null) return prose;
  // Lines of data without a mark: 160 tokens until a text may end.
  const lines = { lengths: layers.map(() => 200), sentenceTokens: 160, kind: code };
  const others = arrivals(PROSE / 4, 0.2, 2, () => lines);
  return [...prose, ...others].sort((a, b) => a.arrivedAt - b.arrivedAt);
}

/** Kept promises of the prose. */
function kept(code: AnswerKind | null): number {
  const { outcomes } = serve(mixed(code));
  return outcomes.filter((each) => each.request.id.startsWith('1-') && isGuaranteed(each) && isMet(each)).length;
}

void t.test('a fifth of requests for code changes few promises of the prose of the same key', async (t) => {
  const alone = kept(null);
  t.ok(alone >= 0.95 * PROSE, `${alone} of ${PROSE} alone`);
  for (const kind of ['schema', 'chat'] as const)
    t.ok(kept(kind) >= 0.95 * alone, `${kept(kind)} beside code of the kind ${kind}`);
});

const answer: Partial<SimulatedRequest> = { lengths: layers.map(() => 30), maxTokens: 30 };
/** One key asks for twice what the machine can promise, for 4 s. */
const flood = Array.from({ length: 160 }, (_, i) =>
  simulated(`flood${i}`, i * 25, total(600, 'reject'), { ...answer, tenant: 'flood' }),
);

/** Answers without a budget that one more key gets in these 4 s. */
function answersBeside(others: readonly SimulatedRequest[]): number {
  const queue = Array.from({ length: 60 }, (_, i) => simulated(`free${i}`, 0, null, { ...answer, tenant: 'free' }));
  const all = [...queue, ...others].sort((a, b) => a.arrivedAt - b.arrivedAt);
  const { outcomes } = serve(all, { machine: { slots: 8 } });
  return outcomes.filter(({ request, endedAt }) => request.id.startsWith('free') && endedAt <= 4_000).length;
}

void t.test('a flood of promises leaves another key a share of the machine, not only what is set aside', async (t) => {
  const alone = answersBeside([]);
  const beside = answersBeside(flood);
  const sameKey = answersBeside(flood.map((each) => ({ ...each, tenant: 'free' })));
  t.ok(beside >= 0.35 * alone, `${beside} answers, ${alone} without the flood`);
  t.ok(sameKey < 0.75 * beside, `${sameKey} answers beside a flood of its own key`);
});

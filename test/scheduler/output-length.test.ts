/** Output lengths: from the prior of the model folder to what answers of a kind show, by exit. */
import fc from 'fast-check';
import t from 'tap';
import {
  DEFAULT_QUANTILES,
  type LengthDistribution,
  type LengthPrior,
  OutputLengths,
  SentenceLength,
  SentenceState,
} from '../../src/engine/scheduler/output-length.js';
import type { AnswerKind } from '../../src/protocol/index.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { seeded } from '../../bench/loadgen/random.js';
import { runs } from './arbitrary.js';
import { prior } from './fixtures.js';

const EXITS = 5;
const MOST = 100_000;
const fresh = (from: LengthPrior | null = prior): OutputLengths => new OutputLengths(EXITS, from, defaultPolicy);
type Kind = AnswerKind;

function at(lengths: OutputLengths, exit = 0, kind: Kind = 'chat'): LengthDistribution {
  const found = lengths.of(kind)[exit];
  if (found === undefined) throw new RangeError(`no distribution at exit ${exit}`);
  return found;
}

interface Answers {
  readonly kind?: Kind;
  readonly exit?: number;
  readonly hasEnded?: boolean;
}

function learn(lengths: OutputLengths, tokens: readonly number[], answers: Answers = {}): OutputLengths {
  const { kind = 'chat', exit = 0, hasEnded = true } = answers;
  for (const count of tokens) lengths.observe(kind, '', exit, count, hasEnded);
  return lengths;
}
const times = (count: number, tokens: number): number[] => new Array<number>(count).fill(tokens);
const median = (each: LengthDistribution): number => each.quantile(0.5, 0, MOST);

void t.test('the quantiles of the prior are reproduced at each exit', async (t) => {
  const shallow: LengthPrior[number] = [
    [0.2, 30],
    [0.5, 120],
    [0.9, 900],
  ];
  const mixed: LengthPrior = [shallow, ...prior.slice(1)];
  const lengths = fresh(mixed);
  mixed.forEach((quantiles, exit) => {
    for (const [share, tokens] of quantiles) {
      const found = at(lengths, exit).quantile(share, 0, MOST);
      t.equal(found, tokens, `exit ${exit}: ${share} of the answers`);
      const within = 1 - at(lengths, exit).longerThan(tokens);
      t.ok(Math.abs(within - share) < 0.01, `exit ${exit}: ${within} within ${tokens} tokens, not ${share}`);
    }
  });
});

void t.test('beyond the last quantile the answers end at the same rate a doubling', async (t) => {
  const [last, tokens] = prior[0]?.at(-1) ?? [0, 0];
  const each = at(fresh());
  t.ok(each.longerThan(2 * tokens) > 0 && each.longerThan(2 * tokens) < 1 - last);
  const ratio = (from: number): number => each.longerThan(2 * from) / each.longerThan(from);
  t.ok(Math.abs(ratio(300) - ratio(600)) < 0.02, `${ratio(300)} and ${ratio(600)}`);
});

void t.test('a distribution is one: it falls with tokens, and its quantiles and means agree with it', async () => {
  const evidence = fc.array(fc.tuple(fc.integer({ min: 1, max: 600 }), fc.nat(EXITS - 1), fc.boolean()), {
    maxLength: 30,
  });
  const asked = fc.record({
    generated: fc.nat(300),
    more: fc.integer({ min: 1, max: 700 }),
    share: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    exit: fc.nat(EXITS - 1),
  });
  fc.assert(
    fc.property(evidence, asked, (answers, { generated, more, share, exit }) => {
      const lengths = fresh();
      for (const [tokens, where, hasEnded] of answers) learn(lengths, [tokens], { exit: where, hasEnded });
      const each = at(lengths, exit);
      const most = generated + more;
      let mean = 0;
      for (let n = generated; n < most; n += 1) {
        if (each.longerThan(n + 1) > each.longerThan(n) + 1e-12) throw new Error(`it rises after ${n} tokens`);
        mean += (each.longerThan(n) + each.longerThan(n + 1)) / 2;
      }
      mean = Math.max(Math.min(1, more), mean / each.longerThan(generated));
      if (Math.abs(each.meanLeft(generated, most) - mean) > 0.02 * mean + 0.1) {
        throw new Error(`mean ${each.meanLeft(generated, most)}, not ${mean}`);
      }
      const quantile = each.quantile(share, generated, most);
      if (quantile <= generated || quantile > most) throw new Error(`${quantile} of (${generated}, ${most}]`);
      const within = (tokens: number): number => 1 - each.longerThan(tokens) / each.longerThan(generated);
      if (quantile < most && within(quantile) < share - 1e-6) throw new Error(`${within(quantile)} is below ${share}`);
      if (quantile > generated + 1 && within(quantile - 1) > share + 1e-6) throw new Error(`${quantile} is too long`);
    }),
    runs,
  );
});

void t.test('a length that halves the answers as often as it doubles has a mean as well', async (t) => {
  const halving: LengthPrior[number] = [
    [0.5, 100],
    [0.75, 200],
    [0.9, 1000],
  ];
  const each = at(fresh(Array.from({ length: EXITS }, () => halving)));
  const mean = 100 * Math.LN2;
  t.ok(Math.abs(each.meanLeft(100, 200) - mean) < 1e-9, `${each.meanLeft(100, 200)}, not ${mean}`);
});

void t.test('evidence counts from the first answer on, as far as it goes', async (t) => {
  const [before, short, long] = [[], [5], [800]].map((tokens) => median(at(learn(fresh(), tokens))));
  t.ok((short ?? NaN) > 5 && (short ?? NaN) < (before ?? NaN), `${short} behind a short answer, ${before} without`);
  t.ok((long ?? NaN) > (before ?? NaN), `${long} behind a long answer`);
});

void t.test('many answers with another hazard than the prior outweigh it', async (t) => {
  const random = seeded(4);
  const expected = at(fresh()).scaled(0.4);
  const tokens = Array.from({ length: 600 }, () => expected.quantile(random(), 0, MOST));
  const each = at(learn(fresh(), tokens));
  for (const share of [0.25, 0.5, 0.75]) {
    const [found, true_] = [each.quantile(share, 0, MOST), expected.quantile(share, 0, MOST)];
    t.ok(Math.abs(found / true_ - 1) < 0.2, `${share}: ${found}, of answers ${true_}`);
  }
});

void t.test('an answer that was cut makes no end before its cut more likely', async () => {
  const history = fc.array(fc.tuple(fc.integer({ min: 1, max: 400 }), fc.nat(EXITS - 1), fc.boolean()), {
    maxLength: 12,
  });
  const cut = fc.record({ exit: fc.nat(EXITS - 1), tokens: fc.integer({ min: 1, max: 600 }) });
  fc.assert(
    fc.property(history, cut, (answers, { exit: where, tokens: until }) => {
      const lengths = fresh();
      for (const [tokens, exit, hasEnded] of answers) learn(lengths, [tokens], { exit, hasEnded });
      const before = at(lengths, where);
      const after = at(learn(lengths, [until], { exit: where, hasEnded: false }), where);
      for (let n = 1; n <= until; n += 1) {
        // Older evidence fades by a thousandth with each answer.
        const [was, is] = [before.longerThan(n), after.longerThan(n)];
        if (is < was - 2e-3) throw new Error(`longer than ${n} of ${until} tokens: ${is} after ${was}`);
      }
    }),
    runs,
  );
});

void t.test('evidence at one exit moves the others the same way', async (t) => {
  for (const tokens of [10, 700]) {
    const lengths = learn(fresh(), times(30, tokens), { exit: 1 });
    const shift = (exit: number): number => Math.log(median(at(lengths, exit)) / median(at(fresh(), exit)));
    const sign = tokens < 100 ? -1 : 1;
    for (const exit of [0, 2, 4]) {
      t.ok(sign * shift(exit) > 0.05, `${tokens} tokens: exit ${exit} by ${shift(exit)}`);
    }
  }
});

void t.test('kinds of requests are told apart; an unseen one begins with the prior, and a form shorter', async (t) => {
  const lengths = learn(fresh(), times(60, 20), { kind: 'chat' });
  learn(lengths, times(80, 400), { kind: 'tools' });
  const of = (kind: Kind): number => median(at(lengths, 0, kind));
  t.ok(of('chat') < 40 && of('tools') > 200, `${of('chat')} and ${of('tools')}`);
  t.equal(of('completion'), median(at(fresh())));
  t.ok(of('schema') < median(at(fresh())) / 2, `${of('schema')}`);
});

void t.test(
  'an empty answer teaches nothing, an endless one does no harm, an exit that lacks is an error',
  async (t) => {
    const lengths = fresh();
    lengths.observe('chat', '', 0, 0, true);
    t.equal(median(at(lengths)), median(at(fresh())));
    learn(lengths, [1e6, 1e6]);
    t.ok(Number.isFinite(at(lengths).meanLeft(10, 1e6)) && median(at(lengths)) > median(at(fresh())));
    t.throws(() => learn(fresh(), [5], { exit: EXITS }), new RangeError('no exit 5'));
  },
);

void t.test('without a prior the default one holds', async (t) => {
  for (const [share, tokens] of DEFAULT_QUANTILES)
    t.ok(Math.abs(at(fresh(null), 2).quantile(share, 0, MOST) - tokens) <= 1 + 0.01 * tokens, `${share}`);
});

void t.test('answers of one tenant move no lengths of another one', async (t) => {
  for (const tokens of [1, 3000]) {
    const lengths = fresh();
    const medianOf = (owner: string): number => median(lengths.of('chat', owner)[4] ?? at(lengths));
    const before = medianOf('other');
    for (let i = 0; i < 64; i++) lengths.observe('chat', 'attacker', 4, tokens, true);
    t.equal(medianOf('other'), before);
    t.ok(Math.abs(medianOf('attacker') / before - 1) > 0.5, 'its own follow');
  }
});

/** An answer with sentences of these lengths; the last one is cut where it is negative. */
function write(
  learnt: SentenceLength,
  lengths: readonly number[],
  owner = 'a',
  kind: 'chat' | 'schema' = 'chat',
): void {
  const sentence = new SentenceState();
  for (const length of lengths) {
    for (let i = 1; i < Math.abs(length); i++) sentence.read(false);
    if (length > 0) sentence.read(true);
  }
  learnt.observe(sentence, kind, owner);
}

for (const [name, count, sentences, [leastFirst, mostFirst], [leastNext, mostNext]] of [
  [
    'the first of an answer apart',
    400,
    (i) => [5 + (i % 10), 20 + ((i * 7) % 40), 20 + ((i * 13) % 40)],
    [11, 18],
    [44, 62],
  ],
  ['those without an end as long as they are', 100, () => [3, -90], [2, 24], [80, 110]],
  ['of few answers soon', 20, () => [60, 60], [50, 80], [50, 80]],
] as readonly (readonly [
  string,
  number,
  (i: number) => number[],
  readonly [number, number],
  readonly [number, number],
])[])
  void t.test(`the lengths of sentences are learnt: ${name}`, async (t) => {
    const learnt = new SentenceLength(defaultPolicy);
    t.strictSame([learnt.first('chat', 'a'), learnt.next('chat', 'a')], [24, 24]);
    for (let i = 0; i < count; i++) write(learnt, sentences(i));
    const [first, next] = [learnt.first('chat', 'a'), learnt.next('chat', 'a')];
    t.ok(first > leastFirst && first < mostFirst, `first ${first}`);
    t.ok(next > leastNext && next < mostNext, `next ${next}`);
  });

void t.test('an answer counts once, however many sentences it has', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  for (let i = 0; i < 30; i++) write(learnt, [10, 30]);
  const before = learnt.next('chat', 'a');
  write(learnt, new Array<number>(250).fill(2));
  t.ok(learnt.next('chat', 'a') > 0.9 * before, `${before}, then ${learnt.next('chat', 'a')}`);
});

void t.test('answers of one tenant move no sentences of another one, nor of another kind', async (t) => {
  const learnt = new SentenceLength(defaultPolicy);
  for (let i = 0; i < 6; i++) write(learnt, [12, 15, 18], 'other');
  const known = () => [learnt.first('chat', 'other'), learnt.next('chat', 'other')];
  const before = known();
  for (const lengths of [[3, -4400], [-4366], new Array<number>(200).fill(2)])
    for (let i = 0; i < 64; i++) write(learnt, lengths, 'attacker');
  t.strictSame(known(), before);
  t.equal(learnt.first('chat', 'new'), 24, 'a tenant without answers');
  t.equal(learnt.next('schema', 'other'), 24, 'another kind');
});

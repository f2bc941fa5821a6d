/** Output lengths: from the prior of the model folder to what answers of a group show, by exit. */
import fc from 'fast-check';
import t from 'tap';
import {
  DEFAULT_QUANTILES,
  type LengthDistribution,
  type LengthPrior,
  OutputLengths,
  lengthPriorOf,
  priorFault,
} from '../../src/router/estimators/output-length.js';
import type { LengthGroup } from '../../src/router/index.js';
import { seeded } from '../../src/util/random.js';
import { runs } from './arbitrary.js';
import { admitted, asking, chat, prior, routerOf, total } from './fixtures.js';

const EXITS = 5;
const MOST = 100_000;
const fresh = (from: LengthPrior | null = prior): OutputLengths => new OutputLengths(EXITS, from);
const keyed = (key: string): LengthGroup => ({ kind: 'chat', key });

function at(lengths: OutputLengths, exit = 0, group: LengthGroup = chat): LengthDistribution {
  const found = lengths.of(group)[exit];
  if (found === undefined) throw new RangeError(`no distribution at exit ${exit}`);
  return found;
}

interface Answers {
  readonly group?: LengthGroup;
  readonly exit?: number;
  readonly hasEnded?: boolean;
}

function learn(lengths: OutputLengths, tokens: readonly number[], answers: Answers = {}): OutputLengths {
  const { group = chat, exit = 0, hasEnded = true } = answers;
  for (const count of tokens) lengths.observe(group, [{ exit, tokens: count }], hasEnded);
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
      t.ok(
        Math.abs(found - tokens) <= 1 + 0.01 * tokens,
        `exit ${exit}: ${share} within ${found} tokens, not ${tokens}`,
      );
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
      if (Math.abs(each.meanLeft(generated, most) - mean) > 1e-6 * mean + 1e-6) {
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

void t.test('evidence counts from the first answer on', async (t) => {
  const [before, short, long] = [fresh(), learn(fresh(), [5]), learn(fresh(), [800])].map((each) => at(each));
  if (before === undefined || short === undefined || long === undefined) throw new Error('three distributions');
  t.ok(median(short) < median(before), `${median(short)} after a short answer, ${median(before)} before`);
  t.ok(median(long) > median(before), `${median(long)} after a long answer`);
  t.ok(median(short) > 5, 'one answer is not all there is');
});

void t.test('many answers outweigh the prior', async (t) => {
  const random = seeded(4);
  const tokens = Array.from({ length: 600 }, () => Math.ceil(500 - 200 * Math.log(1 - random())));
  const sorted = [...tokens].sort((a, b) => a - b);
  const each = at(learn(fresh(), tokens));
  for (const share of [0.25, 0.5, 0.75]) {
    const [found, true_] = [each.quantile(share, 0, MOST), sorted[Math.floor(share * 600)] ?? 0];
    t.ok(Math.abs(found / true_ - 1) < 0.15, `${share}: ${found}, of answers ${true_}`);
  }
});

void t.test('an answer that outlives the short ones is taken to be a long one', async (t) => {
  const each = at(
    learn(
      fresh(),
      Array.from({ length: 400 }, (_, i) => (i % 4 === 0 ? 200 : 10)),
    ),
  );
  t.ok(median(each) < 15, `${median(each)}`);
  t.ok(each.quantile(0.5, 50, MOST) >= 170, `${each.quantile(0.5, 50, MOST)}`);
  t.ok(each.quantile(0.9, 0, 64) <= 64, 'no answer is longer than its limit');
});

void t.test('an answer that was cut makes no end before its cut more likely', async () => {
  const history = fc.array(fc.tuple(fc.integer({ min: 1, max: 400 }), fc.nat(EXITS - 1), fc.boolean()), {
    maxLength: 12,
  });
  const path = fc.array(fc.record({ exit: fc.nat(EXITS - 1), tokens: fc.integer({ min: 1, max: 300 }) }), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(history, path, (answers, cut) => {
      const lengths = fresh();
      for (const [tokens, exit, hasEnded] of answers) learn(lengths, [tokens], { exit, hasEnded });
      const before = lengths.of(chat);
      lengths.observe(chat, cut, false);
      const after = lengths.of(chat);
      const until = cut.reduce((sum, { tokens }) => sum + tokens, 0);
      const last = cut.at(-1)?.exit ?? 0;
      for (let n = 1; n <= until; n += 1) {
        // Older evidence fades by a thousandth with each answer.
        const [was, is] = [before[last]?.longerThan(n) ?? 0, after[last]?.longerThan(n) ?? 0];
        if (is < was - 1e-3) throw new Error(`longer than ${n} of ${until} tokens: ${is} after ${was}`);
      }
    }),
    runs,
  );
});

void t.test('an answer that was cut is longer evidence than one that ended there', async (t) => {
  const cut = at(learn(fresh(), times(10, 60), { hasEnded: false }));
  const ended = at(learn(fresh(), times(10, 60)));
  t.ok(median(cut) > median(at(fresh())), `${median(cut)}`);
  t.ok(median(ended) < median(cut), `${median(ended)}`);
});

void t.test('evidence at one exit moves the others the same way, and less', async (t) => {
  for (const tokens of [10, 700]) {
    const lengths = learn(fresh(), times(30, tokens), { exit: 1 });
    const shift = (exit: number): number => Math.log(median(at(lengths, exit)) / median(at(fresh(), exit)));
    const sign = tokens < 100 ? -1 : 1;
    for (const exit of [0, 2, 4]) {
      t.ok(sign * shift(exit) > 0.05, `${tokens} tokens: exit ${exit} by ${shift(exit)}`);
      t.ok(sign * shift(exit) < sign * shift(1), `${tokens} tokens: exit 1 by ${shift(1)}`);
    }
  }
});

void t.test('each part of an answer is evidence for the exit that it had there', async (t) => {
  const path = [
    { exit: 4, tokens: 100 },
    { exit: 0, tokens: 20 },
  ];
  const lengths = fresh();
  for (let i = 0; i < 200; i += 1) lengths.observe(chat, path, true);
  t.ok(at(lengths, 4).longerThan(90) > 0.7, `no answer ended at exit 4: ${at(lengths, 4).longerThan(90)}`);
  const end = 1 - at(lengths, 0).longerThan(125) / at(lengths, 0).longerThan(105);
  t.ok(end > 0.7, `all ended at exit 0: ${end}`);
});

void t.test('keys are told apart, and a new key begins with its kind', async (t) => {
  const lengths = fresh();
  learn(lengths, times(60, 20), { group: keyed('short') });
  learn(lengths, times(60, 400), { group: keyed('long') });
  const of = (key: string): number => median(at(lengths, 0, keyed(key)));
  t.ok(of('short') < 40 && of('long') > 250, `${of('short')} and ${of('long')}`);
  const only = learn(fresh(), times(60, 20), { group: keyed('short') });
  const unseen = median(at(only, 0, keyed('unseen')));
  t.ok(unseen < median(at(fresh())), `a new key: ${unseen}`);
  const tools: LengthGroup = { kind: 'tools', key: null };
  t.equal(median(at(only, 0, tools)), median(at(fresh(), 0, tools)), 'another kind learns nothing of it');
});

void t.test('a key with one answer stays near its kind', async (t) => {
  const lengths = learn(fresh(), times(100, 300), { group: keyed('a') });
  const kind = median(at(lengths, 0, keyed('b')));
  const one = median(at(learn(lengths, [10], { group: keyed('b') }), 0, keyed('b')));
  t.ok(one < kind && one > 0.4 * kind, `${one} beside ${kind}`);
});

void t.test('memory is bounded: of many keys, the least recent ones are forgotten, and their kind stays', async (t) => {
  const lengths = learn(fresh(), times(40, 900), { group: keyed('first') });
  const isKnown = (key: string): boolean =>
    at(lengths, 0, keyed(key)).longerThan(100) !== at(lengths, 0, keyed('never')).longerThan(100);
  t.ok(isKnown('first'));
  for (let i = 0; i < 2000; i += 1) learn(lengths, [20], { group: keyed(`k${i}`) });
  t.notOk(isKnown('first'), 'the first key makes room');
  t.ok(isKnown('k1999'));
  t.ok(median(at(lengths, 0, keyed('never'))) < 40, 'the kind holds the evidence of all');
});

void t.test('an empty answer teaches nothing, and an endless one does no harm', async (t) => {
  const lengths = fresh();
  lengths.observe(chat, [], true);
  lengths.observe(chat, [{ exit: 0, tokens: 0 }], false);
  t.equal(at(lengths), at(lengths), 'the prior itself');
  t.equal(median(at(lengths)), median(at(fresh())));
  learn(lengths, [1e6, 1e6]);
  t.ok(Number.isFinite(at(lengths).meanLeft(10, 1e6)) && median(at(lengths)) > median(at(fresh())));
});

void t.test('a missing prior, and a missing exit of a manifest, give the default prior', async (t) => {
  const lengths = fresh(null);
  for (const [share, tokens] of DEFAULT_QUANTILES) {
    t.ok(Math.abs(at(lengths, 2).quantile(share, 0, MOST) - tokens) <= 1 + 0.01 * tokens, `${share}`);
  }
  const exit = { lengths: { chat: [[0.5, 80]] } };
  t.equal(lengthPriorOf({ exits: [exit, {}] }), null);
  t.same(lengthPriorOf({ exits: [exit, exit] }), [[[0.5, 80]], [[0.5, 80]]]);
  const ask = asking('a', total(20_000), { maxTokens: 1024, isExactLength: false });
  const { expectedTokens, expectedTokensP90 } = admitted(routerOf({}, null), ask);
  t.ok(Math.abs(expectedTokens - 100) <= 1 && Math.abs(expectedTokensP90 - 450) <= 5, 'the router serves with it');
});

void t.test('a prior that makes no sense has a fault that says what is wrong', async (t) => {
  const of = (...quantiles: (readonly [number, number])[]) => priorFault([quantiles], 1);
  t.equal(priorFault(prior, EXITS), null);
  t.equal(of([0.5, 10]), null);
  t.match(priorFault(prior, 4), /5 exits, the model 4/);
  t.match(of(), /without quantiles/);
  t.match(of([0.5, 10], [0.5, 20]), /share 0.5 after 0.5/);
  t.match(of([0, 10]), /share 0 /);
  t.match(of([1, 10]), /share 1 /);
  t.match(of([0.5, 10], [0.9, 10]), /10 tokens after 10/);
  t.match(of([0.5, 0]), /0 tokens/);
  t.match(of([NaN, 10]), /share NaN/);
  t.match(of([0.5, NaN]), /NaN tokens/);
  t.match(of([0.5, 1e9]), /1000000000 tokens/);
  t.match(priorFault(lengthPriorOf({ exits: [{ lengths: { chat: [[0.5]] } }] }) ?? [], 1), /NaN tokens/);
});

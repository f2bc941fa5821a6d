/** End pressure over the tokens of a draft, without a model. */
import t from 'tap';
import { Landings } from '../../../src/engine/worker/landings.js';
import { LANDING } from '../../../src/engine/landing/pressure.js';
import { TokenTexts } from '../../../src/engine/landing/token-texts.js';
import type { EngineRequest } from '../../../src/protocol/index.js';
import { Sequence } from '../../../src/scheduler/sequence.js';
import { greedy } from '../../../bench/greedy-request.js';

const TEXTS = ['<end>', ' Yes', '.', ' 3', '\n'];
const [END, YES, MARK, THREE, BREAK] = [0, 1, 2, 3, 4];
const bytes = TEXTS.map((text) => new TextEncoder().encode(text));
const texts = new TokenTexts({ bytes, special: new Set([END]) });
/** The window of every sequence: at 500 its pressure has risen to a part. */
const window = { opensAt: 0, endsAt: 1000, tokenMs: 1 };

function sequenceOf(answer: readonly number[], more: Partial<EngineRequest> = {}): Sequence {
  const budget = { totalMs: 1000, ttftMs: null, tpotMs: null, onMiss: 'land' as const };
  const depth = { minExit: 1, maxExit: 1, budget };
  const sequence = new Sequence(greedy('a', [MARK, MARK], 1, 20, { stopTokens: [END], depth, ...more }), 0);
  sequence.tokens.push(...answer);
  return sequence;
}

void t.test('each token of a draft has the pressure of its own place', async (t) => {
  const landings = new Landings(texts, () => window);
  const sequence = sequenceOf([YES]);
  landings.begin([sequence], 500, () => 1);
  t.strictSame(sequence.endPressures, [], 'a prompt is no text of the answer');
  landings.plan(sequence, [MARK, BREAK, YES, MARK]);
  const [none, first, blank, word, second, ...others] = sequence.endPressures.map(({ amount }) => amount);
  t.strictSame([none, blank, word, others], [0, 0, 0, []]);
  t.ok((first ?? 0) > 0 && (first ?? 0) < LANDING.most && first === second);
  t.notOk(landings.mustEnd(sequence, [MARK]));
  landings.begin([sequence], 990, () => 1);
  t.ok(landings.mustEnd(sequence, [MARK]));
  t.notOk(landings.mustEnd(sequence, [MARK, YES]));
  sequence.tokens.push(MARK);
  landings.begin([sequence], 990, () => 1);
  t.strictSame(
    sequence.endPressures.map(({ amount }) => amount),
    [LANDING.forced],
    'the accepted token is read, and the draft has left no trace',
  );
});

void t.test('the next token lifts the pressure inside of a number, and not behind a line', async (t) => {
  const landings = new Landings(texts, () => window);
  for (const [answer, lifts] of [
    [
      [YES, THREE, MARK],
      [false, true],
    ],
    [[YES, MARK, BREAK], []],
  ] as const) {
    const sequence = sequenceOf(answer);
    landings.begin([sequence], 990, () => 1);
    const [pressure] = sequence.endPressures;
    t.strictSame(pressure === undefined ? [] : [YES, MARK].map((next) => pressure.isLifted?.(next)), lifts);
  }
});

void t.test(
  'an answer below min_tokens, of an exact length, without texts or without a window has no pressure',
  async (t) => {
    const pressures = (landings: Landings, sequence: Sequence): number[] => {
      landings.begin([sequence], 990, () => 1);
      return sequence.endPressures.map(({ amount }) => amount);
    };
    const landing = new Landings(texts, () => window);
    t.strictSame(pressures(landing, sequenceOf([YES, MARK])), [LANDING.forced]);
    t.strictSame(pressures(landing, sequenceOf([YES, MARK], { minTokens: 3 })), [0]);
    t.strictSame(pressures(landing, sequenceOf([YES, MARK], { minTokens: 2 })), [LANDING.forced]);
    t.strictSame(pressures(landing, sequenceOf([YES, MARK], { stopTokens: [] })), []);
    t.strictSame(pressures(landing, sequenceOf([YES, MARK], { grammar: { kind: 'regex', pattern: 'a' } })), []);
    t.strictSame(pressures(new Landings(null, () => window), sequenceOf([YES, MARK])), []);
    t.strictSame(pressures(new Landings(texts, () => null), sequenceOf([YES, MARK])), []);
    t.strictSame(pressures(landing, sequenceOf([YES, 99])), [], 'an unknown token has no text');
  },
);

/** End pressure by time and place, and over the tokens of a draft, without a model. */
import t from 'tap';
import type { MayEnd } from '../../../src/gateway/text/sentences/sentence-scanner.js';
import type { Answer } from '../../../src/engine/answer.js';
import { Landings } from '../../../src/engine/worker/landings.js';
import { endPressure, LANDING, thoughtsEnd } from '../../../src/engine/landing/pressure.js';
import { TokenTexts } from '../../../src/engine/landing/token-texts.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { answerOf } from '../answers.js';
import { greedy, within } from '../helper.js';
import type { LandingWindow } from '../../../src/engine/scheduler/types.js';

const landing = { opensAt: 1000, endsAt: 2000, sentenceTokens: 24 };
const pressure = (decodesAt: number, mayEnd: MayEnd = 'free', tokenMs = 10, window: LandingWindow = landing): number =>
  endPressure(window, { decodesAt, tokenMs }, mayEnd);
/** With 24 tokens to the next end, the last one is 25 steps before the deadline. */
const LAST = 1750;

void t.test('pressure rises through the window, and the last end is forced', async (t) => {
  const at = (now: number): number => pressure(now);
  t.strictSame([0, 999, 1000].map(at), [0, 0, 0]);
  const rising = [1001, 1200, 1500, LAST - 1].map(at);
  t.ok(
    rising.every((amount, i) => amount > (rising[i - 1] ?? 0) && amount < LANDING.most),
    rising.join(' '),
  );
  t.strictSame([LAST, 1999, 9999].map(at), [LANDING.forced, LANDING.forced, LANDING.forced]);
  t.equal(pressure(1749, 'line_break'), 0, 'a list ends by force only');
  t.equal(pressure(LAST, 'line_break'), LANDING.forced);
  t.equal(pressure(9999, 'no'), 0);
});

void t.test('a budget below a sentence forces the first end in the window', async (t) => {
  t.equal(pressure(1000, 'free', 100), 0);
  t.equal(pressure(1001, 'free', 100), LANDING.forced);
  t.equal(pressure(9, 'free', 1, { opensAt: 5, endsAt: 5, sentenceTokens: 24 }), LANDING.forced);
});

void t.test('thoughts close half a window before the landing opens', async (t) => {
  const closes = (decodesAt: number): boolean => thoughtsEnd(landing, { decodesAt, tokenMs: 10 });
  t.notOk(closes(489));
  t.ok(closes(490));
});

const TEXTS = ['<end>', ' Yes', '.', ' 3', '\n', '\n```\n', '(', ')\n  '];
const [END, YES, MARK, THREE, BREAK, FENCE, OPEN, CLOSED] = [0, 1, 2, 3, 4, 5, 6, 7];
const bytes = TEXTS.map((text) => new TextEncoder().encode(text));
const texts = new TokenTexts({ bytes, special: new Set([END]) });
/** The window of every answer: at 500 its pressure has risen to a part. */
const window = { opensAt: 0, endsAt: 1000, sentenceTokens: 24 };

function begun(landings: Landings, tokens: readonly number[], more: Partial<SequenceRequest> = {}): Answer {
  const answer = answerOf(greedy('a', [MARK, MARK], 1, 20, { stopTokens: [END], ...within(1, 1000, 'land'), ...more }));
  answer.window = window;
  for (const token of tokens) accept(landings, answer, token);
  return answer;
}

function accept(landings: Landings, answer: Answer, token: number): boolean | null {
  answer.accept(token);
  return landings.read(answer, token, false);
}

const begin = (landings: Landings, answer: Answer, decodesAt: number): number[] => {
  landings.begin([answer], { decodesAt, tokenMs: 1 });
  return answer.endPressures.map(({ amount }) => amount);
};

void t.test('each token of a draft has the pressure of its own place', async (t) => {
  const landings = new Landings(texts);
  const answer = begun(landings, [YES]);
  t.strictSame(begin(landings, answer, 500), [], 'a prompt is no text of the answer');
  landings.plan(answer, [MARK, BREAK, YES, MARK]);
  const [none, first, blank, word, second, ...others] = answer.endPressures.map(({ amount }) => amount);
  t.strictSame([none, blank, word, others], [0, 0, 0, []]);
  t.ok((first ?? 0) > 0 && (first ?? 0) < LANDING.most && first === second);
  t.notOk(landings.mustEnd(answer, [MARK]));
  begin(landings, answer, 990);
  t.ok(landings.mustEnd(answer, [MARK]));
  t.notOk(landings.mustEnd(answer, [MARK, YES]));
  t.ok(accept(landings, answer, MARK));
  t.strictSame(
    begin(landings, answer, 990),
    [LANDING.forced],
    'the accepted token is read, and the draft has left no trace',
  );
});

void t.test('code may end behind its first statement, and has no further sentences', async (t) => {
  const landings = new Landings(texts);
  const answer = begun(landings, []);
  const read = (tokens: readonly number[]) => tokens.map((token) => accept(landings, answer, token));
  t.strictSame(read([YES, FENCE, YES, OPEN, BREAK, YES, CLOSED]), [false, false, false, false, false, false, true]);
  answer.sequence.sentence.read(true);
  t.strictSame(read([YES, CLOSED]), [null, null]);
});

void t.test('the next token lifts the pressure inside of a number, and not behind a line', async (t) => {
  const landings = new Landings(texts);
  for (const [tokens, lifts] of [
    [
      [YES, THREE, MARK],
      [false, true],
    ],
    [[YES, MARK, BREAK], []],
  ] as const) {
    const answer = begun(landings, tokens);
    begin(landings, answer, 990);
    const [pressure] = answer.endPressures;
    t.strictSame(pressure === undefined ? [] : [YES, MARK].map((next) => pressure.isLifted?.(next)), lifts);
  }
});

void t.test(
  'an answer below min_tokens, of an exact length, without texts or without a window has no pressure',
  async (t) => {
    const landings = new Landings(texts);
    const pressures = (tokens: readonly number[], more: Partial<SequenceRequest> = {}, own = landings): number[] =>
      begin(own, begun(own, tokens, more), 990);
    t.strictSame(pressures([YES, MARK]), [LANDING.forced]);
    t.strictSame(pressures([YES, MARK], { minTokens: 3 }), [0]);
    t.strictSame(pressures([YES, MARK], { minTokens: 2 }), [LANDING.forced]);
    t.strictSame(pressures([YES, MARK], { stopTokens: [] }), []);
    t.strictSame(pressures([YES, MARK], { grammar: { kind: 'regex', pattern: 'a' } }), []);
    t.strictSame(pressures([YES, MARK], {}, new Landings(null)), []);
    const unbound = begun(landings, [YES, MARK]);
    unbound.window = null;
    t.strictSame(begin(landings, unbound, 990), []);
    t.strictSame(pressures([YES, 99]), [], 'an unknown token has no text');
  },
);

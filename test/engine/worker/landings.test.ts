/** End pressure over the tokens of a draft, without a model. */
import t from 'tap';
import type { Answer } from '../../../src/engine/answer.js';
import { Landings } from '../../../src/engine/worker/landings.js';
import { LANDING } from '../../../src/engine/landing/pressure.js';
import { TokenTexts } from '../../../src/engine/landing/token-texts.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { greedy } from '../../../bench/greedy-request.js';
import { answerOf } from '../answers.js';

const TEXTS = ['<end>', ' Yes', '.', ' 3', '\n'];
const [END, YES, MARK, THREE, BREAK] = [0, 1, 2, 3, 4];
const bytes = TEXTS.map((text) => new TextEncoder().encode(text));
const texts = new TokenTexts({ bytes, special: new Set([END]) });
/** The window of every answer: at 500 its pressure has risen to a part. */
const window = { opensAt: 0, endsAt: 1000, sentenceTokens: 24 };

function begun(landings: Landings, tokens: readonly number[], more: Partial<SequenceRequest> = {}): Answer {
  const budget = { totalMs: 1000, ttftMs: null, tpotMs: null, onMiss: 'land' as const };
  const depth = { minExit: 1, maxExit: 1, budget };
  const request = greedy('a', [MARK, MARK], 1, 20, { stopTokens: [END], depth, ...more });
  const answer = answerOf(request);
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

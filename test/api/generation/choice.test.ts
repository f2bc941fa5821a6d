/** One answer from the engine's events, also after the client has its end. */
import t from 'tap';
import {
  Choice,
  type ChoiceSpec,
  type ChoiceToken,
  type FinishReason,
  type Piece,
} from '../../../src/gateway/api/generation/choice.js';
import type { EndReason } from '../../../src/protocol/index.js';
import { fakeLogprobs, plannedEvent } from '../../fakes/engine.js';
import { tokenizer } from '../../fakes/server.js';
import { completionLogprobs } from '../../../src/gateway/api/generation/logprobs.js';
import type { TextTokenizer } from '../../../src/gateway/text/tokenizer.js';

interface Course {
  readonly choice: Choice;
  text: string;
  readonly tokens: ChoiceToken[];
  finished: FinishReason | null;
}

function choiceOf(spec: Partial<ChoiceSpec>): Course {
  const choice = new Choice(0, {
    detokenizer: tokenizer.detokenizer(),
    stops: [],
    minTokens: 0,
    echoLength: 0,
    showsEndToken: false,
    grammar: null,
    ...spec,
  });
  return { choice, text: '', tokens: [], finished: null };
}

function taken(choice: Choice): Piece[] {
  const pieces: Piece[] = [];
  choice.take(pieces);
  return pieces;
}

function take(course: Course): void {
  for (const piece of taken(course.choice)) {
    if (!('text' in piece)) continue;
    course.text += piece.text;
    course.tokens.push(...piece.tokens);
  }
}

const say = (course: Course, text: string): void => {
  for (const token of tokenizer.encode(text, false))
    course.choice.token({ id: 'a', token, exit: 30, logprobs: fakeLogprobs(token, 0) }, 0);
  take(course);
};

/**
 * Ends the sequence. `endToken` is the end token, which the engine reports if the request asks for log-probabilities.
 */
function end(course: Course, reason: EndReason, endToken?: number): void {
  course.finished = course.choice.ended({
    reason,
    ...(endToken !== undefined && { endToken: { token: endToken, logprobs: fakeLogprobs(endToken, 0) } }),
  });
  take(course);
}

void t.test('tokens after a stop string are neither shown nor counted', async (t) => {
  const course = choiceOf({ stops: [' two'] });
  say(course, 'one two');
  // A step that had begun when the engine got the cancel.
  say(course, ' three two');
  end(course, 'stop', 2);
  t.equal(course.text, 'one');
  t.ok(course.choice.isStopped);
  t.equal(course.choice.completionTokens, 2);
  t.same([...course.choice.exitLayers], [[30, 2]]);
  t.equal(course.finished, 'stop');
});

void t.test('with an echoed prompt, an end token has an entry after the text', async (t) => {
  const plain = choiceOf({ echoLength: 5 });
  say(plain, 'one two');
  end(plain, 'stop', 2);
  t.equal(plain.tokens.length, 2);
  const echoed = choiceOf({ echoLength: 5, showsEndToken: true });
  say(echoed, 'one two');
  end(echoed, 'stop', 2);
  t.match(echoed.tokens, [{ offset: 5 }, { offset: 8 }, { id: 2, offset: 12, logprobs: { logprob: -0.5 } }]);
  t.equal(echoed.choice.completionTokens, 2, 'the end token does not count');
  const stopped = choiceOf({ echoLength: 5, showsEndToken: true, stops: [' two'] });
  say(stopped, 'one two');
  end(stopped, 'stop', 2);
  t.equal(stopped.tokens.length, 1, 'none after a stop string');
});

void t.test('offsets count code points', async (t) => {
  const course = choiceOf({ echoLength: 1 });
  say(course, '🦊 a');
  const [first, ...others] = course.tokens.map(({ offset }) => offset);
  t.same([first, others.at(-1)], [1, 2], 'one for an emoji');
});

void t.test('each token has an entry at the end, also a token without text or with half a character', async (t) => {
  const [half = NaN] = tokenizer.encode('🜁', false);
  const course = choiceOf({ echoLength: 5, showsEndToken: true, stops: [' two!'] });
  say(course, 'one two');
  // A special token has no text.
  course.choice.token({ id: 'a', token: 0, exit: 30, logprobs: null }, 0);
  take(course);
  t.equal(course.text, 'one', 'the rest may be the start of a stop string');
  end(course, 'length');
  t.equal(course.text, 'one two');
  t.match(course.tokens, [{ offset: 5 }, { offset: 8 }, { id: 0, offset: 12 }]);
  t.equal(course.finished, 'length');

  const cut = choiceOf({ echoLength: 5, showsEndToken: true });
  cut.choice.token({ id: 'a', token: half, exit: 30, logprobs: null }, 0);
  take(cut);
  t.equal(cut.text, '');
  end(cut, 'stop', 2);
  t.equal(cut.text, '\ufffd');
  t.match(cut.tokens, [
    { id: half, offset: 5 },
    { id: 2, offset: 6 },
  ]);

  const special = choiceOf({});
  special.choice.token({ id: 'a', token: 0, exit: 30, logprobs: null }, 0);
  end(special, 'length');
  t.match([special.text, special.tokens], ['', [{ id: 0, offset: 0 }]]);

  const stopped = choiceOf({ stops: ['\ufffd'] });
  stopped.choice.token({ id: 'a', token: half, exit: 30, logprobs: null }, 0);
  end(stopped, 'length');
  t.same([stopped.text, stopped.finished], ['', 'stop'], 'the stop string is found only at the end');
});

void t.test('a guaranteed stream, and any in its window, shows code by whole lines and ends behind one', async (t) => {
  const lines = 'So:\n```js\nf();';
  for (const [reason, text, spec, serviceClass = 'best_effort', shown = lines] of [
    ['deadline', `${lines}\n\`\`\``, { opensAt: 0 }],
    ['deadline', `${lines}\n\`\`\``, { opensAt: 1 }, 'guaranteed'],
    ['deadline', `${lines}\ng(1`, { opensAt: 1 }, 'best_effort', `${lines}\ng(`],
    ['length', `${lines}\ng(1`, { opensAt: 0 }],
    ['cancelled', `${lines}\ng`, { opensAt: 0, stops: ['(1'] }],
  ] as const) {
    const course = choiceOf(spec);
    course.choice.plan = plannedEvent('a', 30, { serviceClass });
    say(course, `${lines}\ng(`);
    t.equal(course.text, shown);
    say(course, '1');
    end(course, reason);
    t.equal(course.text, text);
    t.equal(course.finished, reason === 'cancelled' ? 'stop' : 'length');
    t.equal(course.choice.ending({ reason }).end === 'landed', reason === 'deadline' && shown === lines);
  }
});

void t.test('deltas that the reader has not taken grow: text in one, thoughts in another', async (t) => {
  const tags = { open: '<think>', close: '</think>' };
  const { choice } = choiceOf({ thoughts: { tags, isOpen: true } });
  const words = tokenizer.encode('one two</think>three four', false);
  for (const token of words) choice.token({ id: 'a', token, exit: 30, logprobs: null }, 0);
  const nothing = { index: 0, call: null };
  t.match(taken(choice), [
    { ...nothing, thoughts: 'one two', text: '' },
    { ...nothing, thoughts: '', text: 'three four', tokens: [{ offset: 0 }, { offset: 5 }] },
  ]);
  t.same(taken(choice), []);
});

/** A tokenizer with these bytes for each id. */
function tokenizerOf(...spellings: (string | number[])[]): TextTokenizer {
  const spelling = (id: number) => Buffer.from(spellings[id] as string);
  return { spelling, spelt: (id: number) => spelling(id).toString() } as unknown as TextTokenizer;
}

/** The log-probabilities as a client gets them. */
const written = (...args: Parameters<typeof completionLogprobs>) =>
  JSON.parse(JSON.stringify(completionLogprobs(...args))) as { readonly tokens: string[] };

void t.test('of two tokens with equal text, the chosen one wins', (t) => {
  const top = [[0, -0.25] as const, [2, -3] as const];
  const tokens = [{ id: 1, offset: 0, logprobs: { logprob: -1.5, top } }];
  t.match(written(tokenizerOf('a', 'a', 'b'), tokens), {
    tokens: ['a'],
    token_logprobs: [-1.5],
    top_logprobs: [{ a: -1.5, b: -3 }],
  });
  t.end();
});

void t.test('bytes that are not text have two digits each', (t) => {
  const tokens = [{ id: 0, offset: 0, logprobs: null }];
  t.same(written(tokenizerOf([0x0a, 0xf0]), tokens).tokens, ['bytes:\\x0a\\xf0']);
  t.end();
});

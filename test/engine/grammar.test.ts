/** Answers that keep to a grammar, on the real model: whatever it would rather say. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import Value from 'typebox/value';
import { monotonicMs } from '../../src/clock.js';
import type { EngineCore } from '../../src/engine/core.js';
import { Grammars } from '../../src/engine/grammar/grammars.js';
import { grammarVocabulary } from '../../src/engine/grammar/vocabulary.js';
import { Inbox } from '../../src/engine/inbox.js';
import type { EndedEvent, GenerateMessage, RefusedEvent, StepMessage } from '../../src/engine/messages.js';
import { GREEDY } from '../../src/engine/sampler.js';
import type { TokenizerJson } from '../../src/model/token-bytes.js';
import { TextTokenizer } from '../../src/model/tokenizer.js';
import { makeCore, makeExecutor, MODEL } from './helper.js';

t.setTimeout(180_000);
const executor = await makeExecutor(t);
const { manifest } = executor.model;
const file = join(MODEL, manifest.tokenizer);
const json = JSON.parse(readFileSync(file, 'utf8')) as TokenizerJson;
const tokenizer = new TextTokenizer(json);
const options = { tokenizer: file, endTokens: manifest.eosTokens };
const deepest = executor.units.exits.at(-1)?.layer ?? 0;
const [end = 0] = manifest.eosTokens;

t.afterEach(() => {
  executor.forget(0);
});

interface Answer {
  readonly tokens: number[];
  ended: EndedEvent | null;
  refused: RefusedEvent | null;
}

/** Steps until nothing is left, letting the thread of grammars speak in between. */
async function answers(
  core: EngineCore,
  ids: readonly string[],
  onStep: (step: StepMessage) => void = () => undefined,
) {
  const all = new Map(ids.map((id): [string, Answer] => [id, { tokens: [], ended: null, refused: null }]));
  const open = (): boolean => [...all.values()].some(({ ended, refused }) => ended === null && refused === null);
  const until = monotonicMs() + 60_000;
  while (open() && monotonicMs() < until) {
    if (core.busy && !core.isStalled) {
      const step = core.step();
      for (const { id, token } of step.tokens) all.get(id)?.tokens.push(token);
      for (const event of step.ended) Object.assign(all.get(event.id) ?? {}, { ended: event });
      for (const event of step.refused) Object.assign(all.get(event.id) ?? {}, { refused: event });
      onStep(step);
    }
    await turn();
  }
  return all;
}

function ask(id: string, schema: unknown, more: Partial<GenerateMessage> = {}): GenerateMessage {
  const text = '<|im_start|>user\nTell me about a city, as JSON.<|im_end|>\n<|im_start|>assistant\n';
  return {
    type: 'generate',
    id,
    arrivedAt: monotonicMs(),
    prompt: tokenizer.encode(text, false),
    maxTokens: 120,
    minTokens: 0,
    stopTokens: manifest.eosTokens,
    sampling: GREEDY,
    logprobs: null,
    promptLogprobs: null,
    depth: { minExit: deepest, maxExit: deepest, budget: null },
    grammar: schema === null ? null : JSON.stringify(schema),
    ...more,
  };
}

const city = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 20 },
    inhabitants: { type: 'integer', minimum: 1, maximum: 40_000_000 },
    kind: { enum: ['capital', 'Großstadt', '町'] },
    rivers: { type: 'array', items: { type: 'string', maxLength: 10 }, minItems: 1, maxItems: 2 },
  },
  required: ['name', 'inhabitants', 'kind', 'rivers'],
  additionalProperties: false,
};

void t.test('greedy and sampled, in one batch with a free one: each keeps to its own schema', async (t) => {
  const core = makeCore(executor);
  const inbox = new Inbox(core, options, () => undefined);
  const hot = { ...GREEDY, temperature: 1.5, seed: 3, topK: 40 };
  const shapes: Record<string, unknown> = {
    greedy: city,
    hot: city,
    flag: { type: 'boolean' },
    word: { enum: ['a€😀', 'Köln'] },
    any: { type: 'object', maxProperties: 2, additionalProperties: { type: 'string', maxLength: 8 } },
  };
  for (const [id, schema] of Object.entries(shapes)) {
    inbox.generate(ask(id, schema, id === 'hot' ? { sampling: hot } : {}));
  }
  inbox.generate(ask('free', null, { maxTokens: 40 }));
  const all = await answers(core, [...Object.keys(shapes), 'free']);
  for (const [id, schema] of Object.entries(shapes)) {
    const answer = all.get(id);
    const text = tokenizer.decode(answer?.tokens ?? []);
    t.equal(answer?.ended?.reason, 'stop', `${id}: ${text}`);
    t.ok(Value.Check(schema as object, JSON.parse(text)), `${id}: ${text}`);
    t.notOk(answer?.tokens.includes(end), 'the end token is not part of it');
  }
  const alone = makeCore(executor);
  alone.submit(ask('free', null, { maxTokens: 40 }));
  t.same((await answers(alone, ['free'])).get('free')?.tokens, all.get('free')?.tokens, 'its company changes nothing');
});

void t.test('penalties, bias, log-probabilities and min_tokens go with it; ignore_eos still ends', async (t) => {
  const core = makeCore(executor);
  const inbox = new Inbox(core, options, () => undefined);
  const sampling = { ...GREEDY, presencePenalty: 1, repetitionPenalty: 1.2, logitBias: [[90, 50] as const] };
  inbox.generate(ask('a', { enum: ['yes', 'no'] }, { sampling, logprobs: 2, minTokens: 50 }));
  inbox.generate(ask('b', { enum: ['yes', 'no'] }, { stopTokens: [] }));
  const logprobs: number[] = [];
  const all = await answers(core, ['a', 'b'], ({ tokens }) => {
    for (const token of tokens) if (token.logprobs) logprobs.push(token.logprobs.logprob);
  });
  for (const id of ['a', 'b']) {
    const answer = all.get(id);
    t.match(tokenizer.decode(answer?.tokens ?? []), /^"(yes|no)"$/);
    t.equal(answer?.ended?.reason, 'stop');
  }
  t.equal(logprobs.length, all.get('a')?.tokens.length);
  t.ok(
    logprobs.every((value) => value <= 0 && Number.isFinite(value)),
    "the model's own, not the grammar's",
  );
});

void t.test('a schema that is none is refused with a reason, and the next one works', async (t) => {
  const core = makeCore(executor);
  const inbox = new Inbox(core, options, () => undefined);
  const wrong: [unknown, RegExp][] = [
    [{ type: 'banana' }, /banana/],
    [{ $ref: '#/nowhere' }, /nowhere/],
    [{ type: 'string', pattern: '[a-' }, /regex/],
    [{ not: { type: 'string' } }, /not/],
    [false, /Unsatisfiable/i],
  ];
  wrong.forEach(([schema], index) => {
    inbox.generate(ask(`w${index}`, schema));
  });
  inbox.generate(ask('right', true, { maxTokens: 3 }));
  const all = await answers(core, [...wrong.map((_, index) => `w${index}`), 'right']);
  wrong.forEach(([, message], index) => {
    const refused = all.get(`w${index}`)?.refused;
    t.equal(refused?.reason, 'grammar');
    t.match(refused?.detail, message);
    t.notMatch(refused?.detail, /\n|<state>/, 'one line, without the insides of the parser');
  });
  t.ok(all.get('right')?.ended);
});

void t.test('more grammars than there are parsers wait for each other; cancelled ones give theirs back', async (t) => {
  const core = makeCore(executor);
  const inbox = new Inbox(core, options, () => undefined);
  const ids = Array.from({ length: 12 }, (_, index) => `g${index}`);
  for (const id of ids) inbox.generate(ask(id, { type: 'string' }, { maxTokens: 6 }));
  // In mid-compilation, and in mid-answer.
  inbox.cancel('g0', 'cancelled');
  const all = await answers(core, ids, ({ tokens }) => {
    if (tokens.some(({ id }) => id === 'g1')) inbox.cancel('g1', 'stop');
  });
  t.equal(all.get('g0')?.ended?.reason, 'cancelled');
  t.equal(all.get('g1')?.ended?.reason, 'stop');
  for (const id of ids.slice(2)) t.match(tokenizer.decode(all.get(id)?.tokens ?? []), /^"/, id);
});

void t.test('a thread that dies takes its grammars along, not the engine', async (t) => {
  // The thread holds no process; in the engine the channel to the gateway does.
  const held = setInterval(() => undefined, 1000);
  t.teardown(() => {
    clearInterval(held);
  });
  let told = 0;
  const grammars = new Grammars({ ...options, tokenizer: '/nowhere/tokenizer.json' }, () => told++);
  await t.rejects(grammars.open('a', '{}', []), /ENOENT/);
  await t.rejects(grammars.open('b', '{}', []), /ENOENT/, 'another one is started, and tried');
  t.equal(told, 2);
});

void t.test('every token has a spelling of its own, which says its bytes', (t) => {
  const { vocab, added_tokens: added } = grammarVocabulary(json, end);
  t.equal(Object.keys(vocab).length, tokenizer.vocabulary);
  const names = new Map(Object.entries(vocab).map(([name, id]) => [id, name]));
  const special = new Set(added.map(({ id }) => id));
  for (let id = 0; id < tokenizer.vocabulary; id += 7) {
    if (special.has(id)) continue;
    // As the library reads it.
    const bytes = Array.from(names.get(id) ?? '', (character) => {
      const code = character.codePointAt(0) ?? 0;
      return code >= 0x100 ? code - 0x100 : code;
    });
    t.same(bytes, [...tokenizer.spelling(id)]);
  }
  t.ok(special.has(end));
  t.end();
});

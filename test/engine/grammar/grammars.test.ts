/** Answers under a grammar, on the real model. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import Value from 'typebox/value';
import { monotonicMs } from '../../../src/util/clock.js';
import { isPending } from '../../../src/engine/constraint.js';
import { Grammars } from '../../../src/engine/grammar/grammars.js';
import { grammarVocabulary } from '../../../src/engine/grammar/guidance.js';
import { GrammarQueue } from '../../../src/engine/worker/grammar-queue.js';
import type { SequenceRequest, Grammar } from '../../../src/protocol/index.js';
import { GREEDY } from '../../../src/protocol/sampling-rules.js';
import { tokenBytes, type TokenizerJson } from '../../../src/gateway/text/token-bytes.js';
import { TextTokenizer } from '../../../src/gateway/text/tokenizer.js';
import { answersOf, greedy, holdProcess, makeCore, makeExecutor, MODEL } from '../helper.js';
import { PYDANTIC, ZOD } from './schemas.js';
import { until } from '../../support/until.js';

const executor = await makeExecutor(t);
const { manifest } = executor.model;
const file = join(MODEL, manifest.tokenizer);
const json = JSON.parse(readFileSync(file, 'utf8')) as TokenizerJson;
const tokenizer = new TextTokenizer(json);
const options = { tokenizer: file, endTokens: manifest.eosTokens };
/**
 * Shared by tests whose schemas break no thread: a thread reads the vocabulary for a second or two. On a busy machine it
 * is silent for long.
 */
const grammars = new Grammars({ ...options, silenceMs: 300_000 }, () => undefined);
const layers = executor.model.manifest.exits.map(({ layer }) => layer);
/** For answers of which only the grammar is tested: a third of the layers. */
const shallowest = layers[0] ?? 0;
const deepest = layers.at(-1) ?? 0;
const atFullDepth = { depth: { minExit: deepest, maxExit: deepest, budget: null } };
const [end = 0] = manifest.eosTokens;

t.afterEach(() => {
  executor.forget(0);
});

function ask(id: string, schema: unknown, more: Partial<SequenceRequest> = {}): SequenceRequest {
  const text = '<|im_start|>user\nTell me about a city, as JSON.<|im_end|>\n<|im_start|>assistant\n';
  return greedy(id, tokenizer.encode(text, false), shallowest, 120, {
    stopTokens: manifest.eosTokens,
    grammar: schema === null ? null : { kind: 'json', schema: JSON.stringify(schema) },
    ...more,
  });
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

void t.test('an expression, a choice and written grammars hold answers at every temperature', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const forms: Record<string, [Grammar, RegExp]> = {
    regex: [{ kind: 'regex', pattern: '[A-Z][a-zé]{2,8}/\\d{2}' }, /^[A-Z][a-zé]{2,8}\/\d{2}$/],
    choice: [{ kind: 'choice', choices: ['yes', 'yes, sure', 'Großstadt 町'] }, /^(yes|yes, sure|Großstadt 町)$/],
    lark: [{ kind: 'written', grammar: 'start: "It is " WORD "."\nWORD: /[a-z]{3,9}/' }, /^It is [a-z]{3,9}\.$/],
  };
  for (const [id, [grammar]] of Object.entries(forms)) {
    grammarQueue.generate(ask(id, null, { grammar }));
    grammarQueue.generate(
      ask(`${id} hot`, null, { grammar, sampling: { ...GREEDY, temperature: 1.5, seed: 3, topK: 40 } }),
    );
  }
  const all = await answersOf(
    core,
    Object.keys(forms).flatMap((id) => [id, `${id} hot`]),
  );
  for (const [id, { tokens, ended }] of all) {
    const text = tokenizer.decode(tokens);
    t.match(text, forms[id.replace(' hot', '')]?.[1], id);
    t.equal(ended?.reason, 'stop', `${id}: ${text}`);
  }
  // The library's limit shows only within the answer: the error is the client's.
  const wide = Array.from({ length: 3001 }, (_, index) => `"x" "${index}"`).join(' | ');
  grammarQueue.generate(ask('wide', null, { grammar: { kind: 'written', grammar: `start: ${wide}` } }));
  grammarQueue.generate(ask('wrong', null, { grammar: { kind: 'regex', pattern: '(' } }));
  const wrong = await answersOf(core, ['wide', 'wrong']);
  t.match(wrong.get('wide')?.ended, { reason: 'error', isLost: false, error: /items/ });
  t.match(wrong.get('wrong')?.rejected, { reason: 'grammar', detail: /invalid regex/ });
});

void t.test('an answer thinks freely up to a bound, and the grammar holds behind its thoughts', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  // Any two tokens serve as tags: the bias writes them where the grammar does not hold.
  const [open = 0, close = 0, lineBreak = 0] = ['@', '#', '\n'].flatMap((text) => tokenizer.encode(text, false));
  const choice = { kind: 'choice', choices: ['yes', 'no'] } as const;
  const thoughts = { open, close, blanks: [lineBreak], isOpen: true, most: null };
  // The rule against loops holds in thoughts, and would end the endless ones.
  const writes = (...tokens: number[]) => ({
    ...GREEDY,
    dry: { multiplier: 0, base: 1.75, allowedLength: 2 },
    logitBias: tokens.map((token, index): [number, number] => [token, 100 - 50 * index]),
  });
  const asked: Record<string, [Grammar, number[], RegExp]> = {
    ended: [{ ...choice, thoughts }, [close], /^#\n*(yes|no)$/],
    endless: [{ ...choice, thoughts: { ...thoughts, isOpen: false } }, [open, close], /^@{120}$/],
    bounded: [{ ...choice, thoughts: { ...thoughts, isOpen: false, most: 5 } }, [open, close], /^@@{5}#\n*(yes|no)$/],
    free: [{ kind: 'free', thoughts: { ...thoughts, most: 3 } }, [open], /^@{3}#@{4}/],
  };
  for (const [id, [grammar, tokens]] of Object.entries(asked))
    grammarQueue.generate(ask(id, null, { grammar, sampling: writes(...tokens), ...atFullDepth }));
  for (const [id, { tokens }] of await answersOf(core, Object.keys(asked)))
    t.match(tokenizer.decode(tokens), asked[id]?.[2], id);
});

void t.test('greedy, sampled and unconstrained answers share a batch, each under its own schema', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const hot = { ...GREEDY, temperature: 1.5, seed: 3, topK: 40 };
  const shapes: Record<string, unknown> = {
    greedy: city,
    hot: city,
    flag: { type: 'boolean' },
    word: { enum: ['a€😀', 'Köln'] },
    any: { type: 'object', maxProperties: 2, additionalProperties: { type: 'string', maxLength: 8 } },
  };
  for (const [id, schema] of Object.entries(shapes)) {
    grammarQueue.generate(ask(id, schema, { ...atFullDepth, ...(id === 'hot' && { sampling: hot }) }));
  }
  grammarQueue.generate(ask('free', null, { maxTokens: 40 }));
  const all = await answersOf(core, [...Object.keys(shapes), 'free']);
  for (const [id, schema] of Object.entries(shapes)) {
    const answer = all.get(id);
    const text = tokenizer.decode(answer?.tokens ?? []);
    t.equal(answer?.ended?.reason, 'stop', `${id}: ${text}`);
    t.ok(Value.Check(schema as object, JSON.parse(text)), `${id}: ${text}`);
    t.notOk(answer?.tokens.includes(end), 'the end token is not part of the answer');
  }
  const alone = makeCore(executor);
  alone.submit(ask('free', null, { maxTokens: 40 }));
  t.same(
    (await answersOf(alone, ['free'])).get('free')?.tokens,
    all.get('free')?.tokens,
    'the constrained answers beside it change nothing',
  );
});

void t.test('a grammar combines with penalties, bias, logprobs and min_tokens; ignore_eos still ends', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const sampling = { ...GREEDY, presencePenalty: 1, repetitionPenalty: 1.2, logitBias: [[90, 50] as const] };
  grammarQueue.generate(ask('a', { enum: ['yes', 'no'] }, { sampling, logprobs: 2, minTokens: 50 }));
  grammarQueue.generate(ask('b', { enum: ['yes', 'no'] }, { stopTokens: [] }));
  const logprobs: number[] = [];
  const all = await answersOf(core, ['a', 'b'], ({ tokens }) => {
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
    'log-probabilities of the model, without the mask',
  );
});

void t.test('an answer that may end allows only the end tokens of its request', async (t) => {
  holdProcess(t);
  const [one = 0, two = 0] = tokenizer.encode('12', false);
  for (const stopTokens of [[end], []]) {
    const number = await grammars.open('number', { kind: 'json', schema: '{"type":"integer"}' }, stopTokens);
    number.accept(one);
    await until('compiled', () => !isPending(number), 1);
    t.strictSame([number.mask?.[two], number.mask?.[end]], [1, stopTokens.length]);
    number.close();
  }
});

void t.test('a wrong grammar is rejected with its fault, and the answers beside it continue', async (t) => {
  holdProcess(t);
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, new Grammars(options, () => undefined), () => undefined);
  const functions = ['{}', '{"minLength":"x"}'].map((schema, index) => ({ name: `f${index}`, schema }));
  const wrong: Record<string, [Grammar, detail: RegExp, part: number | null]> = {
    library: [{ kind: 'json', schema: '{"not":{}}' }, /^Unimplemented keys: \["not"\]$/, null],
    kind: [{ kind: 'json', schema: '{"items":{"minLength":"x"}}' }, /^items\.minLength must be/, null],
    calls: [{ kind: 'calls', functions, most: 1, isOptional: false }, /^minLength must be/, 1],
    // Stands for a panic: an error that is not a message about the grammar. The API rejects such a schema.
    crash: [{ kind: 'json', schema: '{' }, /crashes/, null],
  };
  grammarQueue.generate(ask('beside', city));
  let isLate = false;
  const all = await answersOf(core, ['beside', ...Object.keys(wrong), 'right'], () => {
    if (isLate) return;
    isLate = true;
    for (const [id, [grammar]] of Object.entries(wrong)) grammarQueue.generate(ask(id, null, { grammar }));
    grammarQueue.generate(ask('right', true, { maxTokens: 3 }));
  });
  for (const [id, [, detail, part]] of Object.entries(wrong))
    t.match(all.get(id)?.rejected, { reason: 'grammar', detail, part }, id);
  t.equal(all.get('right')?.ended?.reason, 'length');
  t.match(all.get('beside')?.ended, { reason: 'stop' });
  grammarQueue.generate(ask('alone', city));
  const alone = (await answersOf(core, ['alone'])).get('alone');
  t.strictSame(all.get('beside')?.tokens, alone?.tokens);
});

void t.test('an excluded bound is never an answer, however close the other bound is', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const bounds = [
    { exclusiveMinimum: 0, maximum: 0.3 },
    { exclusiveMinimum: 5, exclusiveMaximum: 5.5 },
    { minimum: -0.3, exclusiveMaximum: 0 },
  ];
  // Without the mask, the model would write the whole number and end.
  const bias = [...tokenizer.encode('05', false).map((id) => [id, 60] as const), [end, 50] as const];
  const sampling = { ...GREEDY, logitBias: bias };
  for (const [index, bound] of bounds.entries()) {
    grammarQueue.generate(ask(`${index}`, { type: 'number', ...bound }, { sampling, maxTokens: 20 }));
  }
  const all = await answersOf(core, Object.keys(bounds));
  for (const [index, bound] of bounds.entries()) {
    const text = tokenizer.decode(all.get(`${index}`)?.tokens ?? []);
    t.ok(Value.Check({ type: 'number', ...bound }, JSON.parse(text)), `${JSON.stringify(bound)}: ${text}`);
  }
});

void t.test('grammars beyond the number of parsers wait; a cancelled one frees its parser', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const ids = Array.from({ length: 12 }, (_, index) => `g${index}`);
  for (const id of ids) grammarQueue.generate(ask(id, { type: 'string' }, { maxTokens: 6 }));
  // During compilation, and mid-stream.
  grammarQueue.cancel('g0', 'cancelled');
  const all = await answersOf(core, ids, ({ tokens }) => {
    if (tokens.some(({ id }) => id === 'g1')) grammarQueue.cancel('g1', 'stop');
  });
  t.equal(all.get('g0')?.ended?.reason, 'cancelled');
  t.equal(all.get('g1')?.ended?.reason, 'stop');
  for (const id of ids.slice(2)) t.match(tokenizer.decode(all.get(id)?.tokens ?? []), /^"/, id);
});

/** As many as there are parsers, and no step runs: the next request waits. */
const HOLDERS = Array.from({ length: 8 }, (_, index) => `h${index}`);

void t.test('a cancel during the wait for a grammar ends the request immediately and frees its place', async (t) => {
  const core = makeCore(executor, { maxRunning: 10, maxQueue: 0 });
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  for (const id of [...HOLDERS, 'waits', 'stops']) grammarQueue.generate(ask(id, { type: 'boolean' }));
  grammarQueue.generate(ask('full', { type: 'boolean' }));
  t.equal(grammarQueue.waiting, 10);
  t.match(core.step().rejected, [{ id: 'full', reason: 'queue_full' }]);
  t.notOk(core.busy, 'no other event is pending');
  // The first is being compiled; the second has no parser.
  grammarQueue.cancel('h0', 'cancelled');
  grammarQueue.cancel('waits', 'cancelled');
  t.ok(core.busy, 'the ends are sent although no sequence runs');
  t.match(core.step().ended, [
    { id: 'h0', reason: 'cancelled', startedAt: null, promptTokens: Number },
    { id: 'waits', reason: 'cancelled', startedAt: null },
  ]);
  t.equal(grammarQueue.waiting, 8);
  grammarQueue.generate(ask('late', { type: 'boolean' }));
  let again = 0;
  const rest = [...HOLDERS.slice(1), 'stops', 'late'];
  const all = await answersOf(core, rest, ({ ended, rejected }) => {
    again += [...ended, ...rejected].filter(({ id }) => !rest.includes(id)).length;
  });
  for (const id of rest) t.match(tokenizer.decode(all.get(id)?.tokens ?? []), /^(true|false)$/, id);
  t.equal(again, 0, 'no request ends twice');
  t.equal(grammarQueue.waiting, 0);
});

void t.test('a budget that expires during the wait for a parser ends the wait by its onMiss', async (t) => {
  const core = makeCore(executor);
  let changes = 0;
  const grammarQueue = new GrammarQueue(core, grammars, () => changes++);
  for (const id of HOLDERS) grammarQueue.generate(ask(id, { type: 'boolean' }));
  await until('no request waits', () => grammarQueue.waiting === 0, 1);
  changes = 0;
  const arrivedAt = monotonicMs();
  // A request that expects to wait for longer is rejected at once.
  const ms = 200 + grammars.expectedWaitMs('', arrivedAt);
  const budgets = {
    cut: { totalMs: ms, onMiss: 'truncate' },
    rejected: { totalMs: ms, onMiss: 'reject' },
    first: { totalMs: null, ttftMs: ms, onMiss: 'reject' },
    late: { totalMs: ms, onMiss: 'continue' },
  } as const;
  for (const [id, some] of Object.entries(budgets)) {
    const budget = { ttftMs: null, tpotMs: null, ...some };
    const depth = { minExit: shallowest, maxExit: shallowest, budget };
    grammarQueue.generate(ask(id, { type: 'boolean' }, { arrivedAt, depth }));
  }
  await until('one is cut', () => grammarQueue.waiting <= 1, 1);
  t.equal(changes, 3, 'the step loop wakes up');
  const { ended, rejected } = core.step();
  t.match(ended, [{ id: 'cut', reason: 'deadline', firstTokenAt: null }]);
  t.same(rejected.map(({ id, reason }) => [id, reason]).sort(), [
    ['first', 'budget_infeasible'],
    ['rejected', 'budget_infeasible'],
  ]);
  for (const { leastFeasibleMs } of rejected) t.ok((leastFeasibleMs ?? 0) > ms, `${leastFeasibleMs ?? NaN} ms`);
  const lateMs = (ended[0]?.endedAt ?? Infinity) - arrivedAt - ms;
  t.ok(lateMs > -2, `${lateMs} ms after its deadline`);
  const all = await answersOf(core, [...HOLDERS, 'late']);
  t.match(tokenizer.decode(all.get('late')?.tokens ?? []), /^(true|false)$/, 'it finishes late');
});

void t.test('a tenant with all its parsers leaves some to others, and no promise waits in vain', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const flood = [...HOLDERS, 'h8', 'h9'];
  for (const id of flood) grammarQueue.generate(ask(id, { type: 'boolean' }, { tenant: 'a' }));
  await until('two wait', () => grammarQueue.waiting <= 2, 1);
  const depth = { minExit: shallowest, maxExit: shallowest };
  const budget = { totalMs: 50, ttftMs: null, tpotMs: null, onMiss: 'reject' } as const;
  await delay(60);
  const arrivedAt = monotonicMs();
  grammarQueue.generate(ask('hopeless', { type: 'boolean' }, { arrivedAt, tenant: 'a', depth: { ...depth, budget } }));
  t.equal(grammarQueue.waiting, 2, 'it is rejected at once');
  for (const id of ['b0', 'b1']) grammarQueue.generate(ask(id, { type: 'boolean' }, { tenant: 'b' }));
  await until('the other tenant has parsers', () => grammarQueue.waiting <= 2, 1);
  t.equal(grammarQueue.waiting, 2, 'the parsers of the first tenant are still in use');
  const all = await answersOf(core, [...flood, 'hopeless', 'b0', 'b1']);
  t.match(all.get('hopeless')?.rejected, { reason: 'budget_infeasible', leastFeasibleMs: null });
  for (const id of [...flood, 'b0']) t.match(tokenizer.decode(all.get(id)?.tokens ?? []), /^(true|false)$/, id);
});

void t.test('a thread that dies fails its grammars, not the engine', async (t) => {
  holdProcess(t);
  let changes = 0;
  const grammars = new Grammars({ ...options, tokenizer: '/nowhere/tokenizer.json' }, () => changes++);
  const any = { kind: 'json', schema: '{}' } as const;
  await t.rejects(grammars.open('a', any, []), { name: 'GrammarsLost', message: /ENOENT/ });
  await t.rejects(grammars.open('b', any, []), { name: 'GrammarsLost' }, 'another thread is started and tried');
  t.equal(changes, 2);
});

void t.test('grammars of a lost or starved thread are rejected as lost, not as invalid', async (t) => {
  holdProcess(t);
  for (const lost of [{ tokenizer: '/nowhere/tokenizer.json' }, { silenceMs: 1 }]) {
    const core = makeCore(executor);
    const grammarQueue = new GrammarQueue(
      core,
      new Grammars({ ...options, ...lost }, () => undefined),
      () => undefined,
    );
    grammarQueue.generate(ask('a', city));
    t.match((await answersOf(core, ['a'])).get('a')?.rejected, { reason: 'grammars_lost', detail: /lost/ });
  }
});

/** Takes the thread 100 ms or more. */
const large = {
  type: 'object',
  properties: Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`name ${i}`, city])),
};

void t.test('an answer whose thread is lost mid-stream ends as lost', async (t) => {
  holdProcess(t);
  const core = makeCore(executor);
  const starving = { ...options, silenceMs: 60_000 };
  const grammarQueue = new GrammarQueue(core, new Grammars(starving, () => undefined), () => undefined);
  grammarQueue.generate(ask('a', city));
  const all = await answersOf(core, ['a'], ({ tokens }) => {
    if (tokens.length === 0 || starving.silenceMs === 0) return;
    // From here on, every reply is late, because the thread processes this message first.
    starving.silenceMs = 0;
    grammarQueue.generate(ask('b', large));
  });
  t.match(all.get('a')?.ended, { reason: 'error', error: /lost/, isLost: true });
});

void t.test('answers validate against schemas written by zod and pydantic', async (t) => {
  const core = makeCore(executor);
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const schemas = Object.entries<object>({ ...ZOD, ...PYDANTIC });
  // A valid beginning is enough: strings without a limit run on.
  for (const [name, schema] of schemas) grammarQueue.generate(ask(name, schema, { maxTokens: 24 }));
  const all = await answersOf(
    core,
    schemas.map(([name]) => name),
  );
  for (const [name, schema] of schemas) {
    const answer = all.get(name);
    const text = tokenizer.decode(answer?.tokens ?? []);
    t.match(answer?.ended?.reason, /^(stop|length)$/, `${name}: ${answer?.rejected?.detail ?? text}`);
    if (answer?.ended?.reason === 'stop') t.ok(Value.Check(schema, JSON.parse(text)), text);
  }
});

void t.test('requests that wait for a parser take places in the queue', async (t) => {
  const core = makeCore(executor, { maxRunning: 1, maxQueue: 2 });
  const grammarQueue = new GrammarQueue(core, grammars, () => undefined);
  const ids = ['q0', 'q1', 'q2', 'q3', 'q4'];
  for (const id of ids) grammarQueue.generate(ask(id, { type: 'boolean' }));
  t.equal(grammarQueue.waiting, 3);
  const all = await answersOf(core, ids);
  t.strictSame(
    ids.filter((id) => all.get(id)?.rejected?.reason === 'queue_full'),
    ['q3', 'q4'],
  );
  t.equal(grammarQueue.waiting, 0);
});

void t.test('every token has its own spelling, which encodes its bytes', (t) => {
  const { vocab, added_tokens: added } = grammarVocabulary(tokenBytes(json), end);
  t.equal(Object.keys(vocab).length, tokenizer.vocabulary);
  const names = new Map(Object.entries(vocab).map(([name, id]) => [id, name]));
  const special = new Set(added.map(({ id }) => id));
  for (let id = 0; id < tokenizer.vocabulary; id += 7) {
    if (special.has(id)) continue;
    // Decodes the spelling as the library does.
    const bytes = Array.from(names.get(id) ?? '', (character) => {
      const code = character.codePointAt(0) ?? 0;
      return code >= 0x100 ? code - 0x100 : code;
    });
    t.same(bytes, [...tokenizer.spelling(id)]);
  }
  t.ok(special.has(end));
  t.end();
});

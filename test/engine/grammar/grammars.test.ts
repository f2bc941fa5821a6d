/** Answers under a grammar, by the tiny model, whose random weights prefer no valid text. */
import t from 'tap';
import Value from 'typebox/value';
import { monotonicMs } from '../../../src/util/clock.js';
import { isPending } from '../../../src/engine/constraint.js';
import { Grammars } from '../../../src/engine/grammar/grammars.js';
import type { SequenceRequest, Grammar } from '../../../src/protocol/index.js';
import { GREEDY } from '../../../src/protocol/request.js';
import { answersOf, greedy, holdProcess } from '../helper.js';
import { deepest, grammars, manifest, options, outcomes, queueOf, shallowest, tokenizer } from './answers.js';
import { PYDANTIC, ZOD } from './schemas.js';
import { movedClock } from '../../support/moved-clock.js';
import { until } from '../../support/until.js';

const atFullDepth = { depth: { minExit: deepest, maxExit: deepest, budget: null } };
const HOT = { ...GREEDY, temperature: 1.5, seed: 3, topK: 40 };
const [end = 0] = manifest.eosTokens;

function ask(id: string, schema: unknown, more: Partial<SequenceRequest> = {}): SequenceRequest {
  return greedy(id, tokenizer.encode('A city, as JSON: ', false), shallowest, 200, {
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
  const forms: Record<string, [Grammar, RegExp]> = {
    regex: [{ kind: 'regex', pattern: '[A-Z][a-zé]{2,8}/\\d{2}' }, /^[A-Z][a-zé]{2,8}\/\d{2}$/],
    choice: [{ kind: 'choice', choices: ['yes', 'yes, sure', 'Großstadt 町'] }, /^(yes|yes, sure|Großstadt 町)$/],
    lark: [{ kind: 'written', grammar: 'start: "It is " WORD "."\nWORD: /[a-z]{3,9}/' }, /^It is [a-z]{3,9}\.$/],
  };
  const requests = Object.entries(forms).flatMap(([id, [grammar]]) => [
    ask(id, null, { grammar }),
    ask(`${id} hot`, null, { grammar, sampling: HOT }),
  ]);
  for (const [id, { text, ended }] of await outcomes(requests)) {
    t.match(text, forms[id.replace(' hot', '')]?.[1], id);
    t.equal(ended?.reason, 'stop', `${id}: ${text}`);
  }
  // The library's limit shows only within the answer: the error is the client's.
  const wide = Array.from({ length: 3001 }, (_, index) => `"x" "${index}"`).join(' | ');
  const wrong = await outcomes([
    ask('wide', null, { grammar: { kind: 'written', grammar: `start: ${wide}` } }),
    ask('wrong', null, { grammar: { kind: 'regex', pattern: '(' } }),
  ]);
  t.match(wrong.get('wide')?.ended, { reason: 'error', isLost: false, error: /items/ });
  t.match(wrong.get('wrong')?.rejected, { reason: 'grammar', detail: /invalid regex/ });
});

void t.test('an answer thinks freely up to a bound, and the grammar holds behind its thoughts', async (t) => {
  // Any two tokens serve as tags: the bias writes them where the grammar does not hold.
  const [open = 0, close = 0, lineBreak = 0] = ['@', '#', '\n'].flatMap((text) => tokenizer.encode(text, false));
  const thoughts = { open, close, blanks: [lineBreak], isOpen: false, most: 5 };
  // The rule against loops holds in thoughts, and would end the endless ones.
  const dry = { multiplier: 0, base: 1.75, allowedLength: 2 };
  const logitBias = [[open, 100] as const, [close, 50] as const];
  const all = await outcomes([
    ask('bounded', null, {
      grammar: { kind: 'choice', choices: ['yes', 'no'], thoughts },
      ...{ sampling: { ...GREEDY, dry, logitBias }, ...atFullDepth },
    }),
  ]);
  t.match(all.get('bounded')?.text, /^@@{5}#\n*(yes|no)$/);
});

void t.test('greedy, sampled and unconstrained answers share a batch, each under its own schema', async (t) => {
  const shapes: Record<string, object> = {
    greedy: city,
    hot: city,
    flag: { type: 'boolean' },
    word: { enum: ['a€😀', 'Köln'] },
    list: { type: 'array', items: { type: ['null', 'boolean'] }, minItems: 2, maxItems: 3 },
  };
  const free = ask('free', null, { maxTokens: 40 });
  const requests = Object.entries(shapes).map(([id, schema]) =>
    ask(id, schema, { ...atFullDepth, ...(id === 'hot' && { sampling: HOT }) }),
  );
  const all = await outcomes([...requests, free]);
  for (const [id, schema] of Object.entries(shapes)) {
    const { tokens = [], text = '', ended = null } = all.get(id) ?? {};
    t.equal(ended?.reason, 'stop', `${id}: ${text}`);
    t.ok(Value.Check(schema, JSON.parse(text)), `${id}: ${text}`);
    t.notOk(tokens.includes(end), 'the end token is not part of the answer');
  }
  const alone = (await outcomes([free])).get('free')?.tokens;
  t.same(alone, all.get('free')?.tokens, 'the constrained answers beside it change nothing');
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
  const of = queueOf(new Grammars(options, () => undefined));
  const calls = (schema: object, answer = '{}'): Grammar => {
    const functions = ['{}', JSON.stringify(schema)].map((schema, i) => ({ name: `f${i}`, schema }));
    return { kind: 'calls', functions, most: 1, isOptional: false, answer };
  };
  const wrong: Record<string, [Grammar, detail: RegExp, part: number | null]> = {
    library: [{ kind: 'json', schema: '{"not":{}}' }, /^Unimplemented keys: \["not"\]$/, null],
    kind: [calls({ minLength: 'x' }), /^minLength must be/, 1],
    'calls of nowhere': [calls({ $ref: '#/nowhere' }), /nowhere/, 1],
    // The schema of the answer follows the functions.
    answer: [calls({}, '{"type":"banana"}'), /banana/, 2],
    // Stands for a panic: an error that is not a message about the grammar. The API rejects such a schema.
    crash: [{ kind: 'json', schema: '{' }, /crashes/, null],
  };
  const requests = Object.entries(wrong).map(([id, [grammar]]) => ask(id, null, { grammar }));
  const { core, queue } = of;
  queue.generate(ask('beside', city));
  let isLate = false;
  const all = await answersOf(core, ['beside', ...Object.keys(wrong), 'right'], () => {
    if (isLate) return;
    isLate = true;
    for (const request of [...requests, ask('right', true, { maxTokens: 3 })]) queue.generate(request);
  });
  for (const [id, [, detail, part]] of Object.entries(wrong))
    t.match(all.get(id)?.rejected, { reason: 'grammar', detail, part }, id);
  t.equal(all.get('right')?.ended?.reason, 'length');
  t.match(all.get('beside')?.ended, { reason: 'stop' });
  const alone = (await outcomes([ask('alone', city)], of)).get('alone');
  t.strictSame(all.get('beside')?.tokens, alone?.tokens);
});

/** As many as there are parsers, and no step runs: the next request waits. */
const HOLDERS = Array.from({ length: 8 }, (_, index) => `h${index}`);

void t.test('a cancel during the wait for a grammar ends the request immediately and frees its place', async (t) => {
  const { core, queue } = queueOf(grammars, { maxRunning: 10, maxQueue: 0 });
  for (const id of [...HOLDERS, 'waits', 'stops']) queue.generate(ask(id, { type: 'boolean' }));
  queue.generate(ask('full', { type: 'boolean' }));
  t.equal(queue.waiting, 10);
  t.match(core.step().rejected, [{ id: 'full', reason: 'queue_full' }]);
  t.notOk(core.busy, 'no other event is pending');
  // The first is being compiled; the second has no parser.
  queue.cancel('h0', 'cancelled');
  queue.cancel('waits', 'cancelled');
  t.ok(core.busy, 'the ends are sent although no sequence runs');
  t.match(core.step().ended, [
    { id: 'h0', reason: 'cancelled', startedAt: null, promptTokens: Number },
    { id: 'waits', reason: 'cancelled', startedAt: null },
  ]);
  t.equal(queue.waiting, 8);
  queue.generate(ask('late', { type: 'boolean' }));
  let again = 0;
  const rest = [...HOLDERS.slice(1), 'stops', 'late'];
  const all = await answersOf(core, rest, ({ ended, rejected }) => {
    again += [...ended, ...rejected].filter(({ id }) => !rest.includes(id)).length;
  });
  for (const id of rest) t.match(tokenizer.decode(all.get(id)?.tokens ?? []), /^(true|false)$/, id);
  t.equal(again, 0, 'no request ends twice');
  t.equal(queue.waiting, 0);
});

void t.test('a budget that expires during the wait for a parser ends the wait by its onMiss', async (t) => {
  let changes = 0;
  const { core, queue } = queueOf(grammars, {}, () => changes++);
  for (const id of HOLDERS) queue.generate(ask(id, { type: 'boolean' }));
  await until('no request waits', () => queue.waiting === 0, 1);
  changes = 0;
  const release = movedClock(t);
  const arrivedAt = monotonicMs();
  // A request that expects to wait for longer is rejected at once.
  const ms = 200 + grammars.expectedWaitMs('', arrivedAt);
  const budgets = {
    cut: { totalMs: ms, onMiss: 'truncate' },
    rejected: { totalMs: ms, onMiss: 'reject' },
    first: { totalMs: null, ttftMs: ms, onMiss: 'reject' },
    late: { totalMs: ms, onMiss: 'continue' },
  } as const;
  const depth = { minExit: shallowest, maxExit: shallowest };
  for (const [id, some] of Object.entries(budgets)) {
    const budget = { ttftMs: null, tpotMs: null, ...some };
    queue.generate(ask(id, { type: 'boolean' }, { arrivedAt, depth: { ...depth, budget } }));
  }
  await until('one is cut', () => queue.waiting <= 1);
  const { ended, rejected } = core.step();
  await release();
  t.equal(changes, 3, 'the step loop wakes up');
  t.match(ended, [{ id: 'cut', reason: 'deadline', firstTokenAt: null }]);
  t.same(rejected.map(({ id, reason }) => [id, reason]).sort(), [
    ['first', 'budget_infeasible'],
    ['rejected', 'budget_infeasible'],
  ]);
  for (const { leastFeasibleMs } of rejected) t.ok((leastFeasibleMs ?? 0) > ms, `${leastFeasibleMs ?? NaN} ms`);
  t.equal((ended[0]?.endedAt ?? NaN) - arrivedAt, Math.ceil(ms));
  const all = await answersOf(core, [...HOLDERS, 'late']);
  t.match(tokenizer.decode(all.get('late')?.tokens ?? []), /^(true|false)$/, 'it finishes late');
});

void t.test('answers validate against schemas written by zod and pydantic', async (t) => {
  const schemas: Record<string, object> = { ...ZOD, ...PYDANTIC };
  // A valid beginning is enough: strings without a limit run on.
  const requests = Object.entries(schemas).map(([name, schema]) => ask(name, schema, { maxTokens: 24 }));
  for (const [name, { text, ended, rejected }] of await outcomes(requests)) {
    t.match(ended?.reason, /^(stop|length)$/, `${name}: ${rejected?.detail ?? text}`);
    if (ended?.reason === 'stop') t.ok(Value.Check(schemas[name] ?? {}, JSON.parse(text)), text);
  }
});

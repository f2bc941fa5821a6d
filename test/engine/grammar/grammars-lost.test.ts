/** A grammar thread that breaks, is slow or cannot start, without a model: the sequences beside it continue. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Constraint, isPending } from '../../../src/engine/constraint.js';
import { Grammars } from '../../../src/engine/grammar/grammars.js';
import { Quarantine } from '../../../src/engine/grammar/quarantine.js';
import type { EngineCore } from '../../../src/engine/worker/core.js';
import { GrammarQueue } from '../../../src/engine/worker/grammar-queue.js';
import type { Grammar, SequenceRequest } from '../../../src/protocol/index.js';
import { packageRoot } from '../../../src/cli/options/config.js';
import { TextTokenizer } from '../../../src/gateway/text/tokenizer.js';
import { greedy, holdProcess } from '../helper.js';

/** Of 259 tokens: each thread reads the vocabulary, which takes a second with the embedded model's. */
const tokenizer = join(packageRoot, 'test', 'golden', 'tiny', 'tokenizer.json');
const ends = [2];

const encoder = new TextTokenizer(JSON.parse(readFileSync(tokenizer, 'utf8')));

const schema = JSON.stringify({
  type: 'object',
  properties: { name: { enum: ['a', 'bcd'] }, list: { type: 'array', items: { type: 'boolean' }, maxItems: 4 } },
  required: ['name', 'list'],
  additionalProperties: false,
});
const JSON_GRAMMAR: Grammar = { kind: 'json', schema };
/** The mask is not enforced before a call has begun. */
const CALLS: Grammar = { kind: 'calls', functions: [{ name: 'f', schema }], most: 1, isOptional: true };
/** Takes the thread 100 ms or more. */
const LARGE: Grammar = {
  kind: 'json',
  schema: JSON.stringify({
    type: 'object',
    properties: Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`name ${i}`, JSON.parse(schema)])),
  }),
};
/** Stands for a panic: an error that is not a message about the grammar. The API rejects such a schema. */
const BREAKS: Grammar = { kind: 'json', schema: '{' };

interface Watched {
  readonly grammars: Grammars;
  /** A change applies to the next thread. */
  readonly own: { tokenizer: string };
  /** Number of started threads. */
  readonly threads: () => number;
  /** Makes the next message time out. */
  readonly hurry: () => void;
}

function watched(t: Test): Watched {
  holdProcess(t);
  let threads = 0;
  const count = (): void => {
    threads++;
  };
  process.on('worker', count);
  t.teardown(() => process.off('worker', count));
  let isHurried = false;
  const own = {
    tokenizer,
    endTokens: ends,
    threadMs: () => null,
    get silenceMs(): number {
      const ms = isHurried ? 1 : 60_000;
      isHurried = false;
      return ms;
    },
  };
  const hurry = (): void => {
    isHurried = true;
  };
  return { grammars: new Grammars(own, () => undefined), own, threads: () => threads, hurry };
}

async function settled(constraint: Constraint): Promise<void> {
  while (isPending(constraint)) await turn();
}

const text = '{"name": "bcd", "list": [true, false, true]}';
const call = `<tool_call>\n{"name": "f", "arguments": ${text}}\n</tool_call>`;

/** State of a constraint before a token: a hash of its mask, and whether the mask is enforced. */
const stateOf = ({ mask, enforced }: Constraint): string =>
  `${enforced} ${mask?.reduce((sum, allowed, id) => (sum * 31 + allowed * id) % 1_000_003, 0)}`;

/** Accepts tokens as far as they are allowed. @returns the states before each token, and at the end */
async function write(constraint: Constraint, tokens: readonly number[]): Promise<string[]> {
  const states: string[] = [];
  for (const token of tokens) {
    await settled(constraint);
    states.push(stateOf(constraint));
    if (constraint.enforced && constraint.mask?.[token] !== 1)
      throw new Error(`${token} may not come: ${states.length}`);
    constraint.accept(token);
  }
  await settled(constraint);
  return [...states, stateOf(constraint)];
}

void t.test('an answer beside a grammar that breaks the thread continues unchanged', async (t) => {
  const tokens = encoder.encode(call, false);
  const half = tokens.length >> 1;
  const { grammars, threads, hurry } = watched(t);
  const alone = await grammars.open('alone', CALLS, ends);
  const states = await write(alone, tokens);
  t.equal(alone.failed, null);
  alone.close();
  t.equal(threads(), 1);

  // At every point: with its mask present, pending, or requested while another thread takes over.
  const beside = await grammars.open('beside', CALLS, ends);
  const seen = await write(beside, tokens.slice(0, half));
  const broken = grammars.open('broken', BREAKS, ends);
  beside.accept(tokens[half] ?? 0);
  await t.rejects(broken, { name: 'GrammarError', message: /crashes/ });
  t.equal(threads(), 2);
  seen.push(...(await write(beside, tokens.slice(half + 1, half + 2))));
  hurry();
  await t.rejects(grammars.open('stuck', LARGE, ends), { name: 'GrammarsLost', message: /not answer in time/ });
  t.equal(threads(), 3);
  const token = tokens[half + 2] ?? 0;
  t.equal(beside.mask?.[token], 1, 'its mask was present');
  beside.accept(token);
  seen.push(...(await write(beside, tokens.slice(half + 3))));
  t.equal(beside.failed, null);
  t.strictSame(seen, states);
  beside.close();
  t.equal(threads(), 3);
});

void t.test('grammars of one tenant wait behind that of another, but for two', async (t) => {
  const { grammars } = watched(t);
  const opened: string[] = [];
  const open = async (id: string, tenant: string): Promise<void> => {
    const constraint = await grammars.open(id, JSON_GRAMMAR, ends, tenant);
    opened.push(id);
    constraint.close();
  };
  await Promise.all([...['a1', 'a2', 'a3', 'a4', 'a5'].map((id) => open(id, 'a')), open('b', 'b')]);
  t.same(opened, ['a1', 'a2', 'b', 'a3', 'a4', 'a5']);
});

void t.test('a grammar that broke a thread breaks no second one', async (t) => {
  const { grammars, threads, hurry } = watched(t);
  await t.rejects(grammars.open('a', BREAKS, ends), { name: 'GrammarError' });
  hurry();
  await t.rejects(grammars.open('b', JSON_GRAMMAR, ends), { name: 'GrammarsLost' });
  const before = threads();
  await t.rejects(grammars.open('c', BREAKS, ends), { name: 'GrammarError', message: /crashes/ });
  (await grammars.open('d', CALLS, ends)).close();
  t.equal(threads(), before + 1);
  // More than the number of parsers.
  for (let i = 0; i < 10; i++) await t.rejects(grammars.open(`e${i}`, BREAKS, ends), { name: 'GrammarError' });
  t.equal(threads(), before + 1);
});

/** Schemas that exhaust the stack or the memory of the library, or make it panic within a message. */
function hostile(): Record<string, object> {
  const some = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));
  const object = (name: string) => ({ type: 'object', properties: { [name]: { type: 'integer' } } });
  const lists = some(700, (i) => [`a${i}`, { items: { $ref: `#/$defs/a${i + 1}` } }] as const);
  return {
    chain: { $defs: { ...Object.fromEntries(lists), a700: {} }, items: { $ref: '#/$defs/a0' } },
    unions: { allOf: some(11, (i) => ({ anyOf: [object(`a${i}`), object(`b${i}`)] })) },
    hidden: { $ref: '#/x', x: { type: 'string', minLength: 'é'.repeat(60) } },
  };
}

void t.test('a schema that the library cannot hold is invalid, and the answers beside it continue', async (t) => {
  const { grammars, threads } = watched(t);
  const beside = await grammars.open('beside', JSON_GRAMMAR, ends);
  for (const [id, each] of Object.entries(hostile())) {
    const grammar: Grammar = { kind: 'json', schema: JSON.stringify(each) };
    await t.rejects(grammars.open(id, grammar, ends), { name: 'GrammarError', message: /crashes/ }, id);
  }
  await write(beside, encoder.encode(text, false));
  t.equal(beside.failed, null);
  t.equal(threads(), 4);
  beside.close();
});

void t.test('if no other thread gets ready, the other grammars are lost, but for those of whole answers', async (t) => {
  const { grammars, own, threads } = watched(t);
  const complete = await grammars.open('complete', JSON_GRAMMAR, ends);
  await write(complete, encoder.encode(text, false));
  t.ok(complete.complete);
  const beside = await grammars.open('beside', JSON_GRAMMAR, ends);
  own.tokenizer = '/nowhere/tokenizer.json';
  await t.rejects(grammars.open('broken', BREAKS, ends), { name: 'GrammarError' });
  while (beside.failed === null) await turn();
  t.match(beside.failed, { message: /lost: .*ENOENT/, isLost: true });
  t.equal(threads(), 2, 'no third thread is started');
  t.equal(complete.failed, null);
  beside.close();
});

/** Stands for a panic mid-stream: the library's bindings cannot convert it. */
const BREAKING_TOKEN = 1n as unknown as number;

void t.test('a token that breaks the library fails its own answer only', async (t) => {
  const { grammars, threads } = watched(t);
  const beside = await grammars.open('beside', JSON_GRAMMAR, ends);
  const other: Grammar = { kind: 'json', schema: '{"type":"boolean"}' };
  const breaking = await grammars.open('breaking', other, ends);
  breaking.accept(BREAKING_TOKEN);
  await settled(breaking);
  t.match(breaking.failed, { message: /BigInt/, isLost: true });
  breaking.close();
  await write(beside, encoder.encode(text, false));
  t.equal(beside.failed, null);
  beside.close();
  await t.rejects(grammars.open('again', other, ends), { name: 'GrammarError', message: /crashes/ });
  t.equal(threads(), 2);
});

void t.test('a grammar is in quarantine for a minute; more than 256 push out the oldest', (t) => {
  let now = 0;
  const quarantine = new Quarantine(() => now);
  const check = (i: number) => (): void => {
    quarantine.check(of(i));
  };
  const of = (i: number): Grammar => ({ kind: 'json', schema: `{"maxItems":${i}}` });
  quarantine.add(of(0), new Error('first'));
  t.throws(check(0), /first/);
  t.doesNotThrow(check(1));
  now = 60_000;
  t.doesNotThrow(check(0));
  quarantine.add(of(0), new Error('again'));
  now += 59_999;
  t.throws(check(0), /again/);
  for (let i = 1; i <= 256; i++) quarantine.add(of(i), new Error(`${i}`));
  t.doesNotThrow(check(0));
  t.throws(check(1), /1/);
  t.end();
});

void t.test('a request without a grammar counts the waiting ones, and these keep their places', async (t) => {
  holdProcess(t);
  const submitted = new Map<string, number | null | undefined>();
  let done: () => void = () => undefined;
  const all = new Promise<void>((resolve) => (done = resolve));
  const core = {
    isFull: () => false,
    submit: ({ id }: SequenceRequest, constraint: Constraint | null, elsewhere?: number | null) => {
      submitted.set(id, elsewhere);
      constraint?.close();
      if (submitted.size === 4) done();
    },
  } as unknown as EngineCore;
  let changes = 0;
  const grammarQueue = new GrammarQueue(
    core,
    new Grammars({ tokenizer, endTokens: ends }, () => undefined),
    () => changes++,
  );
  grammarQueue.generate(greedy('a', [1], 1, 1, { grammar: JSON_GRAMMAR }));
  grammarQueue.generate(greedy('b', [1], 1, 1, { grammar: JSON_GRAMMAR }));
  grammarQueue.generate(greedy('plain', [1], 1, 1));
  grammarQueue.generate(greedy('scored', [1], 1, 0, { grammar: JSON_GRAMMAR }));
  t.strictSame(
    [submitted.get('plain'), submitted.get('scored')],
    [2, 2],
    'a request without an answer needs no grammar',
  );
  await all;
  t.strictSame([submitted.get('a'), submitted.get('b')], [null, null]);
  t.equal(changes, 2, 'the step loop wakes up for each');
});

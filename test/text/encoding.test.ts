/** Texts that a thread encodes: the ids of `encode`, in order, while a client waits. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { EncodingThread } from '../../src/gateway/text/encoding/encoding-thread.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import { tokenizer, tokenizerFile, tokenizerJson } from '../fakes/server.js';

function threadOf(t: Test, file = tokenizerFile): EncodingThread {
  const thread = new EncodingThread(file);
  t.teardown(() => thread.close());
  return thread;
}

/** Texts without a boundary, which would block the event loop. */
const unbroken = {
  letters: 'xyz'.repeat(4000),
  spaces: ' '.repeat(9000),
  Chinese: '天地玄黄宇宙洪荒'.repeat(1200),
  emoji: '👩‍👩‍👧‍👦🏳️‍🌈'.repeat(600),
  'letters between words': `Two words. ${'xyz'.repeat(4000)} and two more. ${'words '.repeat(1000)}`,
};

void t.test('the thread returns the ids of encode for a text without boundaries', async (t) => {
  const thread = threadOf(t);
  for (const [name, text] of Object.entries(unbroken)) {
    let used = 0;
    const elsewhere = (piece: string, addSpecial: boolean): Promise<Uint32Array> => {
      used++;
      return thread.encode(piece, addSpecial);
    };
    t.same(await tokenizer.encodeLong(text, true, Infinity, elsewhere), tokenizer.encode(text, true), name);
    t.equal(used, 1, `${name}: one piece in the thread`);
    t.equal(await tokenizer.encodeLong(text, true, 100, elsewhere), null, `${name}: too many tokens`);
  }
});

void t.test('the thread encodes whole texts for a tokenizer without cuts, with its begin and end tokens', async (t) => {
  const special = { SpecialToken: { id: '<|endoftext|>', type_id: 0 } };
  const json = {
    ...tokenizerJson,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special, { Sequence: { id: 'A', type_id: 0 } }, special],
      pair: [],
      special_tokens: { '<|endoftext|>': { id: '<|endoftext|>', ids: [0], tokens: ['<|endoftext|>'] } },
    },
  };
  const file = join(t.testdir(), 'tokenizer.json');
  writeFileSync(file, JSON.stringify(json));
  const thread = threadOf(t, file);
  const own = new TextTokenizer(json);
  const elsewhere = (text: string, addSpecial: boolean) => thread.encode(text, addSpecial);
  const text = 'The capital of France is Paris. '.repeat(300);
  for (const addSpecial of [true, false]) {
    const ids = await own.encodeLong(text, addSpecial, Infinity, elsewhere);
    t.same(ids, own.encode(text, addSpecial), `special tokens: ${addSpecial}`);
    t.equal(ids?.[0] === 0 && ids.at(-1) === 0, addSpecial);
  }
});

/** Takes a second or more to encode. */
const endless = 'xyz'.repeat(50_000);

void t.test('a client that disconnects cancels only its own text', async (t) => {
  const thread = threadOf(t);
  const [running, waiting] = [new AbortController(), new AbortController()];
  const order: string[] = [];
  const ended = (name: string) => () => order.push(name);
  const results = [
    t.rejects(thread.encode(endless, false, running.signal), { message: 'left' }).then(ended('running')),
    t.rejects(thread.encode(endless, false, waiting.signal), { message: 'left as well' }).then(ended('waiting')),
    thread.encode('Hello', false).then((ids) => {
      t.same([...ids], tokenizer.encode('Hello', false));
      order.push('other');
    }),
  ];
  waiting.abort(new Error('left as well'));
  running.abort(new Error('left'));
  await Promise.all(results);
  t.same(order.slice(-1), ['other']);
  await t.rejects(thread.encode('Hello', false, running.signal), { message: 'left' }, 'it does not start');
});

void t.test('more than eight texts are rejected, and waiting texts are rejected on close', async (t) => {
  const thread = threadOf(t);
  const waiting = Array.from({ length: 8 }, () => thread.encode(endless, false));
  const closed = waiting.map((each) => t.rejects(each, { name: 'EncodingRejected', reason: 'closed' }));
  await t.rejects(thread.encode('Hello', false), { name: 'EncodingRejected', reason: 'full' });
  await thread.close();
  await Promise.all(closed);
  const later = { name: 'EncodingRejected', reason: 'closed' };
  await t.rejects(thread.encode('Hello', false), later, 'later texts are rejected');
});

void t.test('if the system cannot start a thread, each text fails', async (t) => {
  // Simulates a system error: Node.js throws immediately for this path as well.
  const thread = threadOf(t, (() => 0) as unknown as string);
  const lost = { name: 'EncodingLost', message: /lost: .*could not be cloned/ };
  for (let each = 0; each < 9; each++) await t.rejects(thread.encode('Hello', false), lost);
});

void t.test('a thread that cannot start, or dies, fails its text, and the next text has another thread', async (t) => {
  const file = join(t.testdir(), 'tokenizer.json');
  const thread = threadOf(t, file);
  const lost = { name: 'EncodingLost' };
  await Promise.all([
    t.rejects(thread.encode('Hello', false), { ...lost, message: /ENOENT/ }),
    t.rejects(thread.encode('Hello', false), lost, 'the waiting text fails as well'),
  ]);
  writeFileSync(file, JSON.stringify(tokenizerJson));
  const noText = null as unknown as string;
  const [died, next] = [thread.encode(noText, false), thread.encode('Hello', false)];
  await t.rejects(died, lost);
  t.same([...(await next)], tokenizer.encode('Hello', false));
});

import t from 'tap';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { build, says, tokenizer, withBegin, type TestServer } from '../fakes/server.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';

// A small tokenizer in the style of SentencePiece (Llama 2). A word token holds the space before it, and a text starts
// with a space.

const SPACE = '\u2581';
const SPECIAL = ['<unk>', '<s>', '</s>'];

/** Tokens by id. */
const PIECES = [
  ...SPECIAL,
  ...[`${SPACE}the`, 'the', `${SPACE}Hi`, SPACE, 't', 'h', 'e', 'H', 'i', `${SPACE}t`, 'he', `${SPACE}H`],
] as const;

/** Adds `<s>` (1) and a space before a text, as Llama's tokenizer does. */
const pieces = new TextTokenizer({
  added_tokens: SPECIAL.map((content, id) => ({ id, content, special: true, normalized: false })),
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'Prepend', prepend: SPACE },
      { type: 'Replace', pattern: { String: ' ' }, content: SPACE },
    ],
  },
  pre_tokenizer: null,
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
  },
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: {
    type: 'BPE',
    unk_token: '<unk>',
    fuse_unk: true,
    byte_fallback: true,
    vocab: Object.fromEntries(PIECES.map((token, id) => [token, id])),
    merges: [`${SPACE} t`, 'h e', `${SPACE}t he`, 't he', `${SPACE} H`, `${SPACE}H i`],
  },
});

const PATH = '/v1/completions';

void t.test('a completion has text, usage, depth and predictions', async (t) => {
  const server = await build(t, says(' Paris, of course.'));
  const ask = { model: 'fake', prompt: 'The capital is', stop: null, logprobs: null };
  const count = tokenizer.encode(' Paris, of course.', false).length;
  t.match(await server.ask(PATH, ask), {
    status: 200,
    headers: { 'x-exit-layer': '30', 'x-predicted-ttft-ms': '1.5', 'x-predicted-tpot-ms': '0.5' },
    body: {
      object: 'text_completion',
      choices: [{ index: 0, text: ' Paris, of course.', finish_reason: 'stop', logprobs: null }],
      usage: { prompt_tokens: 3, completion_tokens: count, total_tokens: count + 3 },
      sortie: { exit_layers: { 30: count }, met: undefined, budget_ms: undefined },
    },
  });
});

void t.test('several prompts in every form, n each, keep their order', async (t) => {
  const server = await build(t, (request) => ({ tokens: [request.prompt[0] ?? 0] }));
  const choicesOf = async (fields: object) => (await server.ask(PATH, fields)).body.choices;
  const ids = ['Alpha', 'Beta'].map((text) => tokenizer.encode(text, false));
  const [a, b] = ids.map(([id]) => tokenizer.decode([id ?? 0]));
  for (const prompt of [['Alpha', 'Beta'], ids]) {
    const order = (await choicesOf({ prompt, n: 2, seed: 7 })).map(({ index, text }) => `${index} ${text}`);
    t.same(order, [`0 ${a}`, `1 ${a}`, `2 ${b}`, `3 ${b}`]);
  }
  const used = server.engine.requests.slice(0, 4).map(({ sampling }) => sampling.seed);
  t.same(used, [7, 8, 7, 8]);
  await choicesOf({ prompt: 'Alpha', n: 4, seed: Number.MAX_SAFE_INTEGER });
  const seeds = server.engine.requests.slice(-4).map(({ sampling }) => sampling.seed);
  t.equal(new Set(seeds).size, 4, 'seeds next to the largest one are different, too');
  t.ok(seeds.every(Number.isSafeInteger));
  t.equal((await choicesOf({ prompt: ids[0] })).length, 1);
  t.equal((await choicesOf({ prompt: Array.from({ length: 8 }, () => 'Alpha') })).length, 8);
});

void t.test('each of several prompts may fill the context to its last token', async (t) => {
  const server = await build(t);
  const prompt = (length: number): number[] => Array.from({ length }, () => 504);
  for (const [fields, status, lengths] of [
    [{ prompt: [prompt(3), prompt(245), prompt(3)] }, 200, [16, 11, 16]],
    [{ prompt: prompt(255), max_tokens: 1 }, 200, [1]],
    [{ prompt: prompt(255), max_tokens: 2 }, 400, []],
    [{ prompt: prompt(255) }, 200, [1]],
    [{ prompt: prompt(256) }, 400, []],
  ] as const) {
    t.equal((await server.ask(PATH, fields)).status, status);
    const most = server.engine.requests.splice(0).map(({ maxTokens }) => maxTokens);
    t.same(most, lengths);
  }
  const scored = { prompt: prompt(256), echo: true, logprobs: 0, max_tokens: 0 };
  const text = tokenizer.decode(prompt(256));
  t.match((await server.ask(PATH, scored)).body.choices, [{ text }], 'a scored prompt may be as long as the context');
});

void t.test('usage counts the cached tokens of each prompt once, whatever its number of choices', async (t) => {
  const server = await build(t, ({ prompt }) => ({ tokens: [5], ended: { cachedTokens: prompt.length } }));
  const { usage } = (await server.ask(PATH, { prompt: [[1], [1, 2, 3, 4, 5]], n: 2 })).body;
  t.match(usage, { prompt_tokens: 6, completion_tokens: 4, prompt_tokens_details: { cached_tokens: 6 } });
});

void t.test('a stream has one token a chunk, one finish reason a choice, and its usage', async (t) => {
  const server = await build(t, says(' Paris is nice.', { pace: 1 }));
  const stream_options = { include_usage: true, continuous_usage_stats: true };
  const chunks = await server.chunks(PATH, { prompt: ['It is', 'Is it'], n: 2, stream_options });
  const count = tokenizer.encode(' Paris is nice.', false).length;
  t.equal(chunks.length, 4 * (count + 1) + 1);
  const choices = chunks.flatMap(({ choices }) => choices);
  for (const index of [0, 1, 2, 3]) {
    const own = choices.filter((choice) => choice.index === index);
    t.equal(own.map(({ text }) => text).join(''), ' Paris is nice.');
    const reasons = own.map(({ finish_reason }) => finish_reason);
    t.same(reasons, [...Array.from({ length: count }, () => null), 'stop']);
  }
  const totals = chunks.map(({ usage }) => usage?.completion_tokens ?? -1);
  t.match([chunks.at(-1)?.choices, totals.at(-1)], [[], 4 * count]);
  t.same(totals.slice(0, 2), [1, 2]);
  t.same(
    totals,
    [...totals].sort((a, b) => a - b),
    'counted in every chunk',
  );
  const unasked = await server.chunks(PATH, { prompt: 'a', stream_options: { continuous_usage_stats: true } });
  t.ok(unasked.every(({ usage }) => usage === undefined));
});

void t.test('echo puts the prompt before the answer, streamed or not, and scores it', async (t) => {
  const server = await build(t, says(' Paris.'));
  const ask = { prompt: 'It is', echo: true, logprobs: 0 };
  const [whole] = (await server.ask(PATH, ask)).body.choices;
  const choices = (await server.chunks(PATH, ask)).flatMap((chunk) => chunk.choices);
  t.equal(whole?.text, 'It is Paris.');
  t.equal(choices.map(({ text }) => text).join(''), 'It is Paris.');
  const tokens = choices.flatMap(({ logprobs }) => logprobs?.tokens ?? []);
  const offsets = choices.flatMap(({ logprobs }) => logprobs?.text_offset ?? []);
  t.same([tokens, offsets], [whole?.logprobs?.tokens, whole?.logprobs?.text_offset]);
  for (const top of whole?.logprobs?.top_logprobs.slice(1) ?? []) t.equal(Object.keys(top ?? {}).length, 1);
  const text = 'The capital of France is Paris.';
  const others = tokenizer.encode(text, false).slice(1);
  const [alone] = (await server.ask(PATH, { prompt: text, echo: true, logprobs: 1, max_tokens: 0 })).body.choices;
  t.match(alone, { text, finish_reason: 'length', logprobs: { top_logprobs: { 0: null } } });
  t.equal(alone?.logprobs?.tokens.join(''), text);
  t.same(alone?.logprobs?.token_logprobs, [null, ...others.map(() => -0.5)]);
});

async function echoed(server: TestServer, prompt: unknown): Promise<[string, [string, number][]]> {
  const [choice] = (await server.ask(PATH, { prompt, echo: true, logprobs: 1, max_tokens: 1 })).body.choices;
  const { tokens = [], text_offset: offsets = [] } = choice?.logprobs ?? {};
  return [choice?.text ?? '', tokens.map((token, i) => [token, offsets[i] ?? -1])];
}

void t.test('offsets of an echoed prompt count the special tokens of its text', async (t) => {
  const text = '<|im_start|>user\nHi 🦊<|im_end|>';
  const begin = await build(t, says('!'), { model: { tokenizer: withBegin() } });
  for (const server of [await build(t, says('!')), begin])
    for (const prompt of [text, tokenizer.encode(text, false)]) {
      const [shown, tokens] = await echoed(server, prompt);
      t.equal(shown, `${text}!`);
      const before = typeof prompt === 'string' && server === begin ? [['<|endoftext|>', 0]] : [];
      const starts = [...before, ['<|im_start|>', 0], ['user', 12], ['\n', 16], ['Hi', 17]];
      const ends = [
        ['<|im_end|>', 21],
        ['!', 31],
      ] as const;
      t.same([tokens.slice(0, starts.length), tokens.slice(-2)], [starts, ends]);
    }
  // The first part of a character that never completes shows as U+FFFD, before the next token.
  const [broken = -1] = tokenizer.encode('🦊', false);
  t.same(await echoed(begin, [0, 49, broken, 2, 50]), [
    '<|endoftext|>A\ufffd<|im_end|>B!',
    [
      ['<|endoftext|>', 0],
      ['A', 13],
      ['bytes:\\xf0\\x9f', 14],
      ['<|im_end|>', 14],
      ['B', 25],
      ['!', 26],
    ],
  ]);
});

void t.test('offsets of an echoed prompt skip the spaces that the tokenizer adds before words', async (t) => {
  const server = await build(t, () => ({ tokens: [4] }), { model: { tokenizer: pieces } });
  for (const [prompt, offsets] of [
    ['the the', [0, 0, 3, 7]],
    // The tokenizer adds one after a special token as well, besides the space of the text.
    ['Hi</s>the the', [0, 0, 2, 6, 9, 13]],
    ['Hi</s> the', [0, 0, 2, 6, 7, 10]],
    [' the', [0, 0, 1, 4]],
    // Token ids decode unchanged.
    [
      [1, 3, 2, 3, 4],
      [0, 3, 7, 11, 15, 18],
    ],
  ] as const) {
    const found = (await echoed(server, prompt))[1].map(([, offset]) => offset);
    t.same(found, offsets, String(prompt));
  }
});

void t.test('tokens keep their leading space, and concatenate to the text', async (t) => {
  // " the", "the", "the", " Hi": each of the first two is the alternative of the other.
  const server = await build(t, () => ({ tokens: [3, 4, 4, 5] }), {
    model: { tokenizer: pieces, chat: new ChatTemplate('{{ messages[0].content }}', {}) },
  });
  const [choice] = (await server.ask(PATH, { prompt: 'Hi', logprobs: 2 })).body.choices;
  t.equal(choice?.text, ' thethethe Hi');
  t.equal(choice?.logprobs?.tokens.join(''), choice?.text);
  t.same(choice?.logprobs?.top_logprobs[0], { ' the': -0.5, the: -1.5 });
  t.same(choice?.logprobs?.text_offset, [0, 4, 7, 10]);
  const asked = { messages: [{ role: 'user', content: 'Hi' }], logprobs: true, top_logprobs: 2 };
  const content = (await server.ask('/v1/chat/completions', asked)).body.choices[0]?.logprobs?.content ?? [];
  t.equal(content.map(({ token }) => token).join(''), ' thethethe Hi');
  t.match(content[0], { top_logprobs: [{ token: ' the' }, { token: 'the' }] });
  for (const { token, bytes } of content) t.equal(Buffer.from(bytes).toString(), token);
});

void t.test('a stop string ends the answer, stays hidden and cancels the sequence', async (t) => {
  const server = await build(t, says('one two three four five'));
  for (const [stop, shown] of [
    ['two th', 'one '],
    [['nothing', ' three'], 'one two'],
  ] as const) {
    const [whole] = (await server.ask(PATH, { prompt: 'Count', stop, logprobs: 1 })).body.choices;
    t.match(whole, { text: shown, finish_reason: 'stop' });
    t.ok(shown.startsWith(whole?.logprobs?.tokens[0] ?? '-'));
    const choices = (await server.chunks(PATH, { prompt: 'Count', stop })).flatMap((chunk) => chunk.choices);
    t.equal(choices.map(({ text }) => text).join(''), shown);
    const reasons = choices.flatMap((choice) => choice.finish_reason ?? []);
    t.same(reasons, ['stop']);
  }
  t.match([server.engine.cancelled.length, server.engine.live], [4, 0]);
  const { text } = await server.get('/metrics');
  t.match(text, /request_success_total\{finished_reason="stop",[^}]*\} 4\n/, 'metrics count them as stops');
  t.match(text, /request_success_total\{finished_reason="abort",[^}]*\} 0\n/);
  server.engine.script = says('one two one two');
  // The last of the least tokens may complete a stop string.
  for (const [min_tokens, said] of [
    [3, 'one two one'],
    [2, 'one'],
  ] as const)
    t.equal((await server.ask(PATH, { prompt: 'Count', stop: ' two', min_tokens })).body.choices[0]?.text, said);
});

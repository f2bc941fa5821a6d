import t from 'tap';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { pieces } from '../fakes/pieces.js';
import { build, events, says, tokenizer, withBegin, type TestServer } from '../fakes/server.js';

interface Body {
  id: string;
  object: string;
  choices: {
    index: number;
    text: string;
    finish_reason: string | null;
    logprobs: {
      tokens: string[];
      token_logprobs: (number | null)[];
      top_logprobs: (Record<string, number> | null)[];
      text_offset: number[];
    } | null;
  }[];
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number } | null;
  sortie?: { exit_layers: Record<string, number>; met?: boolean; budget_ms?: number };
}

void t.test('a completion has text, usage, depth and predictions', async (t) => {
  const server = await build(t, says(' Paris, of course.'));
  const ask = { model: 'fake', prompt: 'The capital is', stop: null, logprobs: null };
  const response = await server.post('/v1/completions', ask);
  const body = (await response.json()) as Body;
  const count = tokenizer.encode(' Paris, of course.', false).length;
  t.equal(response.status, 200);
  t.equal(body.object, 'text_completion');
  t.match(body.choices, [{ index: 0, text: ' Paris, of course.', finish_reason: 'stop', logprobs: null }]);
  t.match(body.usage, { prompt_tokens: 3, completion_tokens: count, total_tokens: count + 3 });
  t.match(body.sortie, { exit_layers: { 30: count }, met: undefined, budget_ms: undefined });
  t.equal(response.headers.get('x-exit-layer'), '30');
  t.equal(response.headers.get('x-predicted-ttft-ms'), '1.5');
  t.equal(response.headers.get('x-predicted-tpot-ms'), '0.5');
});

void t.test('max_tokens defaults to 16 and ends with length', async (t) => {
  const server = await build(t, () => ({ tokens: tokenizer.encode('word '.repeat(40), false) }));
  const body = (await (await server.post('/v1/completions', { prompt: 'Say' })).json()) as Body;
  t.equal(body.usage?.completion_tokens, 16);
  t.equal(body.choices[0]?.finish_reason, 'length');
  const asked = { prompt: 'Say', max_tokens: 9, max_completion_tokens: 3 };
  const short = (await (await server.post('/v1/completions', asked)).json()) as Body;
  t.equal(short.usage?.completion_tokens, 3, 'max_completion_tokens wins');
});

void t.test('several prompts in every form, n each, keep their order', async (t) => {
  const server = await build(t, (request) => ({ tokens: [request.prompt[0] ?? 0] }));
  const ids = ['Alpha', 'Beta'].map((text) => tokenizer.encode(text, false));
  for (const prompt of [['Alpha', 'Beta'], ids]) {
    const body = (await (await server.post('/v1/completions', { prompt, n: 2, seed: 7 })).json()) as Body;
    const [a, b] = ids.map(([id]) => tokenizer.decode([id ?? 0]));
    const order = body.choices.map(({ index, text }) => `${index} ${text}`);
    t.same(order, [`0 ${a}`, `1 ${a}`, `2 ${b}`, `3 ${b}`]);
  }
  const used = server.engine.requests.slice(0, 4).map(({ sampling }) => sampling.seed);
  t.same(used, [7, 8, 7, 8]);
  await server.post('/v1/completions', { prompt: 'Alpha', n: 4, seed: Number.MAX_SAFE_INTEGER });
  const seeds = server.engine.requests.slice(-4).map(({ sampling }) => sampling.seed);
  t.equal(new Set(seeds).size, 4, 'seeds next to the largest one are different, too');
  t.ok(seeds.every(Number.isSafeInteger));
  const flat = (await (await server.post('/v1/completions', { prompt: ids[0] })).json()) as Body;
  t.equal(flat.choices.length, 1);
  const most = await server.post('/v1/completions', { prompt: Array.from({ length: 8 }, () => 'Alpha') });
  t.equal(((await most.json()) as Body).choices.length, 8, 'the largest allowed number');
});

void t.test('each of several prompts may fill the context to its last token', async (t) => {
  const server = await build(t);
  const prompt = (length: number): number[] => Array.from({ length }, () => 504);
  const ask = async (fields: object): Promise<[number, number[]]> => {
    const response = await server.post('/v1/completions', fields);
    await response.text();
    return [response.status, server.engine.requests.splice(0).map(({ maxTokens }) => maxTokens)];
  };
  t.same(await ask({ prompt: [prompt(3), prompt(245), prompt(3)] }), [200, [16, 11, 16]]);
  t.same(await ask({ prompt: prompt(255), max_tokens: 1 }), [200, [1]]);
  t.same(await ask({ prompt: prompt(255), max_tokens: 2 }), [400, []]);
  t.same(await ask({ prompt: prompt(255) }), [200, [1]]);
  t.same(await ask({ prompt: prompt(256) }), [400, []]);
  const scored = { prompt: prompt(256), echo: true, logprobs: 0, max_tokens: 0 };
  const [choice] = ((await (await server.post('/v1/completions', scored)).json()) as Body).choices;
  t.equal(choice?.text, tokenizer.decode(prompt(256)), 'a prompt that is only scored may be as long as the context');
});

void t.test('usage counts the cached tokens of each prompt once, whatever its number of choices', async (t) => {
  const server = await build(t, ({ prompt }) => ({ tokens: [5], cachedTokens: prompt.length }));
  const ask = { prompt: [[1], [1, 2, 3, 4, 5]], n: 2 };
  const { usage } = (await (await server.post('/v1/completions', ask)).json()) as Body;
  t.match(usage, { prompt_tokens: 6, completion_tokens: 4, prompt_tokens_details: { cached_tokens: 6 } });
});

void t.test('raw bytes of a stream: one token a chunk, one finish reason a choice, usage, [DONE]', async (t) => {
  const server = await build(t, says(' Paris is nice.', { pace: 1 }));
  const usage = { include_usage: true, continuous_usage_stats: true };
  const ask = { prompt: ['It is', 'Is it'], n: 2, stream: true, stream_options: usage };
  const raw = await (await server.post('/v1/completions', ask)).text();
  t.ok(raw.endsWith('\n\ndata: [DONE]\n\n'));
  const lines = raw.split('\n\n').filter((line) => line !== '');
  t.ok(lines.every((line) => line.startsWith('data: ') && !line.slice(6).includes('\n')));
  t.notMatch(raw, /"finish_reason":""/);
  const chunks = lines.slice(0, -1).map((line) => JSON.parse(line.slice(6)) as Body);
  const count = tokenizer.encode(' Paris is nice.', false).length;
  t.equal(chunks.length, 4 * (count + 1) + 1);
  const choices = chunks.flatMap(({ choices }) => choices);
  for (const index of [0, 1, 2, 3]) {
    const own = choices.filter((choice) => choice.index === index);
    t.equal(own.map(({ text }) => text).join(''), ' Paris is nice.');
    const reasons = own.map(({ finish_reason }) => finish_reason);
    t.same(reasons, [...Array.from({ length: count }, () => null), 'stop']);
  }
  t.same(chunks.at(-1)?.choices, []);
  t.equal(chunks.at(-1)?.usage?.completion_tokens, 4 * count);
  const totals = chunks.map(({ usage }) => usage?.completion_tokens ?? -1);
  t.same(totals.slice(0, 2), [1, 2]);
  const rises = totals.every((total, i) => total >= (totals[i - 1] ?? 0));
  t.ok(rises, 'counted in every chunk');
});

void t.test('echo with logprobs and max_tokens 0 scores the prompt', async (t) => {
  const server = await build(t);
  const text = 'The capital of France is Paris.';
  const ids = tokenizer.encode(text, false);
  const response = await server.post('/v1/completions', { prompt: text, echo: true, logprobs: 1, max_tokens: 0 });
  const choice = ((await response.json()) as Body).choices[0];
  t.equal(choice?.text, text);
  t.equal(choice?.finish_reason, 'length');
  t.equal(choice?.logprobs?.tokens.join(''), text);
  t.equal(choice?.logprobs?.token_logprobs[0], null);
  t.equal(choice?.logprobs?.top_logprobs[0], null);
  const others = ids.slice(1).map(() => -0.5);
  t.same(choice?.logprobs?.token_logprobs.slice(1), others);
  t.same(choice?.logprobs?.text_offset.slice(0, 3), [0, 3, 11]);
});

void t.test('echo puts the prompt before the answer, streamed or not', async (t) => {
  const server = await build(t, says(' Paris.'));
  const ask = { prompt: 'It is', echo: true, logprobs: 0 };
  const whole = (await (await server.post('/v1/completions', ask)).json()) as Body;
  const chunks = (await events(await server.post('/v1/completions', { ...ask, stream: true }))).slice(0, -1);
  const choices = chunks.flatMap((chunk) => (JSON.parse(chunk) as Body).choices);
  t.equal(whole.choices[0]?.text, 'It is Paris.');
  t.equal(choices.map(({ text }) => text).join(''), 'It is Paris.');
  const tokens = choices.flatMap(({ logprobs }) => logprobs?.tokens ?? []);
  const offsets = choices.flatMap(({ logprobs }) => logprobs?.text_offset ?? []);
  t.same([tokens, offsets], [whole.choices[0]?.logprobs?.tokens, whole.choices[0]?.logprobs?.text_offset]);
});

async function echoed(server: TestServer, prompt: unknown): Promise<[string, [string, number][]]> {
  const response = await server.post('/v1/completions', { prompt, echo: true, logprobs: 1, max_tokens: 1 });
  const [choice] = ((await response.json()) as Body).choices;
  const { tokens = [], text_offset: offsets = [] } = choice?.logprobs ?? {};
  return [choice?.text ?? '', tokens.map((token, i) => [token, offsets[i] ?? -1])];
}

void t.test('offsets of an echoed prompt count the special tokens of its text', async (t) => {
  const script = says('!');
  const text = '<|im_start|>user\nHi 🦊<|im_end|>';
  const expected = [
    ['<|im_start|>', 0],
    ['user', 12],
    ['\n', 16],
    ['Hi', 17],
  ];
  for (const model of [{}, { tokenizer: withBegin() }]) {
    const server = await build(t, script, { model });
    const added = 'tokenizer' in model ? [['<|endoftext|>', 0]] : [];
    for (const prompt of [text, tokenizer.encode(text, false)]) {
      const [shown, tokens] = await echoed(server, prompt);
      const before = typeof prompt === 'string' ? added : [];
      t.equal(shown, `${text}!`);
      t.same(tokens.slice(0, expected.length + before.length), [...before, ...expected]);
      t.same(tokens.slice(-2), [
        ['<|im_end|>', 21],
        ['!', 31],
      ]);
    }
  }
  const server = await build(t, script, { model: { tokenizer: withBegin() } });
  // The first part of a character that never completes shows as U+FFFD, before the next token.
  const [broken = -1] = tokenizer.encode('🦊', false);
  t.same(await echoed(server, [0, 49, broken, 2, 50]), [
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

void t.test('offsets count code points, streamed or not, echoed or held back for a stop string', async (t) => {
  const said = 'a 🦊🦊 b c';
  const server = await build(t, says(said));
  const ids = tokenizer.encode(said, false);
  const python = (text: string) => Array.from(text).length;
  // A token starts at the end of the preceding text, whole characters only.
  const starts = ids.map((_, index) => python(tokenizer.decode(ids.slice(0, index)).replace(/\ufffd+$/, '')));
  t.equal(starts.at(-1), python(said) - 2);
  for (const prompt of ['Hi', '🦊 Hi 🦊']) {
    for (const echo of [false, true]) {
      const ask = { prompt, echo, logprobs: 0, stop: ['c d', '🦊 no'] };
      const before = echo ? python(prompt) : 0;
      const expected = starts.map((start) => start + before);
      const whole = (await (await server.post('/v1/completions', ask)).json()) as Body;
      t.same(whole.choices[0]?.logprobs?.text_offset.slice(-ids.length), expected);
      const chunks = await events(await server.post('/v1/completions', { ...ask, stream: true }));
      const choices = chunks.slice(0, -1).flatMap((chunk) => (JSON.parse(chunk) as Body).choices);
      t.same(choices.flatMap(({ logprobs }) => logprobs?.text_offset ?? []).slice(-ids.length), expected);
    }
  }
});

void t.test('parts of characters are written as bytes, so that two of them differ', async (t) => {
  // F0 9F begins many emoji. The bytes that follow are not text on their own.
  const parts = tokenizer.encode('🦊', false);
  t.ok(parts.length > 1 && parts.every((id) => tokenizer.spelt(id).includes('\ufffd')));
  const server = await build(t, () => ({ tokens: parts }));
  const answer = await server.post('/v1/completions', { prompt: 'Hi', logprobs: 5, max_tokens: parts.length });
  const { text, logprobs } = ((await answer.json()) as Body).choices[0] ?? {};
  t.equal(text, '🦊');
  const spelt = parts.map(
    (id) => `bytes:${Buffer.from(tokenizer.spelling(id)).toString('hex').replace(/../g, '\\x$&')}`,
  );
  t.same(logprobs?.tokens, spelt);
  spelt.forEach((token, index) => {
    const top = logprobs?.top_logprobs[index] ?? {};
    t.ok(token in top, token);
    t.equal(Object.keys(top).length, 5, 'no alternative is lost');
  });
  t.notMatch(JSON.stringify(logprobs), /\ufffd/);
  const ids = await server.post('/v1/completions', { prompt: parts, echo: true, logprobs: 5, max_tokens: 0 });
  t.same(((await ids.json()) as Body).choices[0]?.logprobs?.tokens, spelt);
});

void t.test('offsets of an echoed prompt skip the spaces that the tokenizer adds before words', async (t) => {
  const server = await build(t, () => ({ tokens: [4] }), { model: { tokenizer: pieces } });
  const offsets = async (prompt: unknown) => (await echoed(server, prompt))[1].map(([, offset]) => offset);
  t.same(await offsets('the the'), [0, 0, 3, 7]);
  t.same(await offsets('Hi</s>the the'), [0, 0, 2, 6, 9, 13], 'the tokenizer adds one after a special token as well');
  t.same(await offsets('Hi</s> the'), [0, 0, 2, 6, 7, 10], 'besides the space of the text');
  t.same(await offsets(' the'), [0, 0, 1, 4]);
  t.same(await offsets([1, 3, 2, 3, 4]), [0, 3, 7, 11, 15, 18], 'token ids decode unchanged');
});

void t.test('tokens keep their leading space, and concatenate to the text', async (t) => {
  // " the", "the", "the", " Hi": each of the first two is the alternative of the other.
  const server = await build(t, () => ({ tokens: [3, 4, 4, 5] }), {
    model: { tokenizer: pieces, chat: new ChatTemplate('{{ messages[0].content }}', {}) },
  });
  const body = (await (await server.post('/v1/completions', { prompt: 'Hi', logprobs: 2 })).json()) as Body;
  const [choice] = body.choices;
  t.equal(choice?.text, ' thethethe Hi');
  t.equal(choice?.logprobs?.tokens.join(''), choice?.text);
  t.same(choice?.logprobs?.top_logprobs[0], { ' the': -0.5, the: -1.5 });
  t.same(choice?.logprobs?.text_offset, [0, 4, 7, 10]);
  const messages = [{ role: 'user', content: 'Hi' }];
  const asked = { messages, logprobs: true, top_logprobs: 2 };
  const chat = (await (await server.post('/v1/chat/completions', asked)).json()) as {
    choices: { logprobs: { content: { token: string; bytes: number[]; top_logprobs: { token: string }[] }[] } }[];
  };
  const content = chat.choices[0]?.logprobs.content ?? [];
  t.equal(content.map(({ token }) => token).join(''), ' thethethe Hi');
  const top = content[0]?.top_logprobs.map(({ token }) => token);
  t.same(top, [' the', 'the']);
  for (const { token, bytes } of content) t.equal(Buffer.from(bytes).toString(), token);
});

void t.test('logprobs 0 gives top_logprobs of length 1', async (t) => {
  const server = await build(t);
  const body = (await (await server.post('/v1/completions', { prompt: 'It is', logprobs: 0 })).json()) as Body;
  for (const top of body.choices[0]?.logprobs?.top_logprobs ?? []) t.equal(Object.keys(top ?? {}).length, 1);
});

void t.test('a stop string ends the answer, stays hidden and cancels the sequence', async (t) => {
  const server = await build(t, says('one two three four five'));
  for (const stop of ['two th', ['nothing', ' three']]) {
    const shown = typeof stop === 'string' ? 'one ' : 'one two';
    const whole = (await (await server.post('/v1/completions', { prompt: 'Count', stop, logprobs: 1 })).json()) as Body;
    t.match(whole.choices[0], { text: shown, finish_reason: 'stop' });
    t.ok(shown.startsWith(whole.choices[0]?.logprobs?.tokens[0] ?? '-'));
    const streamed = await events(await server.post('/v1/completions', { prompt: 'Count', stop, stream: true }));
    const choices = streamed.slice(0, -1).flatMap((chunk) => (JSON.parse(chunk) as Body).choices);
    t.equal(choices.map(({ text }) => text).join(''), shown);
    const reasons = choices.map((choice) => choice.finish_reason).filter((reason) => reason !== null);
    t.same(reasons, ['stop']);
  }
  t.equal(server.engine.cancelled.length, 4);
  t.equal(server.engine.live, 0);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /request_success_total\{finished_reason="stop",[^}]*\} 4\n/, 'metrics count them as stops');
  t.match(metrics, /request_success_total\{finished_reason="abort",[^}]*\} 0\n/);
});

void t.test('stop strings apply only after min_tokens', async (t) => {
  const server = await build(t, says('one two one two'));
  const ask = { prompt: 'Count', stop: ' two', min_tokens: 3 };
  const body = (await (await server.post('/v1/completions', ask)).json()) as Body;
  t.equal(body.choices[0]?.text, 'one two one');
  const exact = (await (await server.post('/v1/completions', { ...ask, min_tokens: 2 })).json()) as Body;
  t.equal(exact.choices[0]?.text, 'one', 'the last of these tokens may complete a stop string');
});

void t.test('a character of several tokens comes whole, in every chunk', async (t) => {
  const text = 'naïve 日本語 🦊🏳️‍🌈 done';
  const server = await build(t, says(text));
  const streamed = await events(await server.post('/v1/completions', { prompt: 'Say', stream: true, max_tokens: 60 }));
  const texts = streamed.slice(0, -1).map((chunk) => (JSON.parse(chunk) as Body).choices[0]?.text ?? '');
  t.equal(texts.join(''), text);
  t.notOk(texts.some((part) => part.includes('\ufffd')));
});

void t.test('the last of 64 stop strings ends an answer', async (t) => {
  const server = await build(t, says('one two three four'));
  const stop = Array.from({ length: 63 }, (_, index) => `never ${index}`);
  const ask = (more: unknown) => server.post('/v1/completions', { prompt: 'Hi', max_tokens: 20, stop: more });
  t.match(await (await ask([...stop, ' three'])).json(), { choices: [{ text: 'one two', finish_reason: 'stop' }] });
});

void t.test('a rejected schema is a 400 with the reason, streamed or not', async (t) => {
  const reject = { reason: 'grammar', leastFeasibleMs: null, detail: 'Invalid type: banana' } as const;
  const server = await build(t, () => ({ tokens: [], reject }));
  for (const stream of [false, true]) {
    const response_format = { type: 'json_schema', json_schema: { name: 'n', schema: { type: 'banana' } } };
    const answer = await server.post('/v1/completions', { prompt: 'Hi', stream, response_format });
    t.equal(answer.status, 400);
    const error = { type: 'invalid_request_error', code: 'invalid_value', param: 'response_format', message: /banana/ };
    t.match(await answer.json(), { error });
  }
});

import t from 'tap';
import { ChatBody } from '../../src/gateway/api/endpoints/chat-completions/chat-body.js';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { build, events, says, tokenizer } from '../fakes/server.js';

interface Chunk {
  id: string;
  object: string;
  created: number;
  choices: {
    index: number;
    delta: { role?: string; content?: string };
    finish_reason: string | null;
    logprobs: unknown;
  }[];
  usage?: { completion_tokens: number } | null;
  sortie?: { exit_layers: Record<string, number> };
}

const messages = [{ role: 'user', content: 'What is the capital of France?' }];
const texts = (...parts: string[]) => parts.map((text) => ({ type: 'text', text }));

void t.test('a last message may stay open: the answer is its continuation alone', async (t) => {
  const server = await build(t, says(' is Paris.'));
  const ask = [...messages, { role: 'assistant', content: 'The capital, of course,' }];
  const question = '<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n';
  const head = `${question}The capital, of course,`;
  const promptOf = async (fields: object): Promise<string> => {
    const response = await server.post('/v1/chat/completions', { messages: ask, ...fields });
    t.match(await response.json(), { choices: [{ message: { role: 'assistant', content: ' is Paris.' } }] });
    return tokenizer.decode(server.engine.requests.at(-1)?.prompt ?? [], { special: true });
  };
  t.equal(await promptOf({ continue_final_message: true, add_generation_prompt: false }), head, "vLLM's fields");
  t.equal(await promptOf({ continue_final_message: true }), head, 'one of them suffices');
  const prefixed = ask.map((each, index) => (index === 1 ? { ...each, prefix: true } : each));
  t.equal(await promptOf({ messages: prefixed }), head, "Mistral's and DeepSeek's field");
  const spoken = `${head}<|im_end|>\n`;
  t.equal(await promptOf({}), `${spoken}<|im_start|>assistant\n`, 'by default the message is complete');
  t.equal(await promptOf({ add_generation_prompt: false }), spoken);
  const stated = { continue_final_message: false, add_generation_prompt: true };
  t.equal(await promptOf(stated), `${spoken}<|im_start|>assistant\n`);
  const empty = [...messages, { role: 'assistant', content: '' }];
  t.match(await promptOf({ messages: empty, continue_final_message: true }), /assistant\n$/);
  const open = await promptOf({ messages, continue_final_message: true });
  t.match(open, /France\?$/, 'a message of any role, as in vLLM');
  const call = { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } };
  const calling = [...messages, { role: 'assistant', tool_calls: [call] }];
  const wrong: [object, string][] = [
    [{ continue_final_message: true, add_generation_prompt: true }, 'add_generation_prompt'],
    [{ messages: prefixed, add_generation_prompt: true }, 'add_generation_prompt'],
    [{ messages: [...prefixed, ...messages] }, 'messages[1].prefix'],
    [{ messages: [{ ...messages[0], prefix: true }] }, 'messages[0].prefix'],
    [{ messages: calling, continue_final_message: true }, 'messages[1].tool_calls'],
    [{ continue_final_message: 'yes' }, 'continue_final_message'],
  ];
  for (const [fields, param] of wrong) {
    const response = await server.post('/v1/chat/completions', { messages: ask, ...fields });
    t.match(await response.json(), { error: { code: 'invalid_value', param } });
  }
});

void t.test('variables of the chat template come from the request, except the usual ones', async (t) => {
  const source =
    '{{ messages[0].content }}|{{ enable_thinking }}|{{ x.y }}|{{ add_generation_prompt }}|{{ bos_token }}|';
  const chat = new ChatTemplate(source, { bos_token: '<s>' });
  const server = await build(t, says('Paris.'), { model: { chat } });
  const ask = [{ role: 'user', content: 'Hi' }];
  const textOf = async (fields: object): Promise<string> => {
    const response = await server.post('/v1/chat/completions', { messages: ask, ...fields });
    t.equal(response.status, 200, JSON.stringify(fields));
    const ids = server.engine.requests.at(-1)?.prompt ?? [];
    const counted = await server.post('/tokenize', { messages: ask, ...fields });
    t.match(await counted.json(), { tokens: ids });
    return tokenizer.decode(ids, { special: true });
  };
  const stolen = { messages: [], add_generation_prompt: false, bos_token: 'x' };
  const kwargs = { enable_thinking: false, x: { y: 'z' }, ...stolen };
  t.equal(await textOf({ chat_template_kwargs: kwargs }), 'Hi|false|z|true|<s>|');
  t.equal(await textOf({ reasoning_effort: 'none', chat_template_kwargs: { x: {} } }), 'Hi|false||true|<s>|');
  t.equal(await textOf({ reasoning_effort: 'low', chat_template_kwargs: { x: {} } }), 'Hi|true||true|<s>|');
  const own = { reasoning_effort: 'low', chat_template_kwargs: { x: {}, enable_thinking: false } };
  t.equal(await textOf(own), 'Hi|false||true|<s>|', 'the more exact field wins');
  const plain = await build(t);
  const rejected = await plain.post('/v1/chat/completions', { messages: ask, reasoning_effort: 'low' });
  t.match(await rejected.json(), { error: { code: 'unsupported_parameter', param: 'reasoning_effort' } });
  const fields = { reasoning_effort: 'none', chat_template_kwargs: { enable_thinking: false } };
  t.equal((await plain.post('/v1/chat/completions', { messages: ask, ...fields })).status, 200, 'asks for nothing');
});

void t.test(
  "a length that no request states is the server's bound, the model's, or the end of the context",
  async (t) => {
    for (const [maxTokensDefault, generation, most] of [
      [null, {}, 256],
      [20, {}, 20],
      [5000, {}, 256],
      [null, { maxTokens: 30 }, 30],
      [40, { maxTokens: 30 }, 40],
      [null, { maxTokens: 5000 }, 256],
    ] as const) {
      const server = await build(t, says('Paris.'), { limits: { maxTokensDefault }, model: { generation } });
      for (const fields of [{}, { max_tokens: null, max_completion_tokens: null }]) {
        t.equal((await server.post('/v1/chat/completions', { messages, ...fields })).status, 200);
        const { prompt = [], maxTokens } = server.engine.requests.at(-1) ?? {};
        t.equal(maxTokens, Math.min(most, 256 - prompt.length), `${maxTokensDefault ?? 'none'}`);
      }
      await server.post('/v1/completions', { prompt: 'x' });
      t.equal(server.engine.requests.at(-1)?.maxTokens, 16, 'completions keep the default of OpenAI and vLLM');
    }
  },
);

void t.test('a null for any optional field equals a missing field', async (t) => {
  const server = await build(t, says('Paris.'));
  const optional = Object.keys(ChatBody.properties).filter((field) => field !== 'messages');
  const nulls = Object.fromEntries(optional.map((field) => [field, null]));
  t.equal((await server.post('/v1/chat/completions', { messages, ...nulls })).status, 200);
  const [withNulls] = server.engine.requests.slice(-1);
  await server.post('/v1/chat/completions', { messages });
  const [plain] = server.engine.requests.slice(-1);
  const comparable = { id: '', arrivedAt: 0 };
  t.strictSame({ ...withNulls, ...comparable }, { ...plain, ...comparable });
});

void t.test('a chat answer has one assistant message', async (t) => {
  const server = await build(t, says('Paris.'));
  const response = await server.post('/v1/chat/completions', { model: 'fake', messages });
  const body = (await response.json()) as Record<string, unknown>;
  const message = { role: 'assistant', content: 'Paris.', refusal: null };
  t.match(body, {
    ...{ id: /^chatcmpl-\w{24}$/, object: 'chat.completion', created: Number, model: 'fake' },
    choices: [{ index: 0, message, finish_reason: 'stop', logprobs: null }],
  });
  const prompt = tokenizer.decode(server.engine.requests[0]?.prompt ?? [], { special: true });
  t.equal(prompt, '<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n');
  t.equal(server.engine.requests[0]?.maxTokens, 64, 'an absent max_tokens takes the default of the server');
});

void t.test('raw bytes of a stream: role with the first token, one finish reason, usage, [DONE]', async (t) => {
  const server = await build(t, says('Paris is nice.'));
  const ask = { messages, stream: true, stream_options: { include_usage: true } };
  const response = await server.post('/v1/chat/completions', ask);
  t.match(response.headers.get('content-type'), /^text\/event-stream/);
  t.equal(response.headers.get('cache-control'), 'no-cache');
  t.equal(response.headers.get('x-accel-buffering'), 'no', 'nginx would hold events back');
  t.equal(response.headers.get('x-exit-layer'), '30');
  const raw = await response.text();
  t.ok(raw.endsWith('\n\ndata: [DONE]\n\n'));
  const lines = raw.split('\n\n').filter((line) => line !== '');
  t.equal(lines.filter((line) => !line.startsWith('data: ')).length, 0, 'events of one data line each');
  const chunks = lines.slice(0, -1).map((line) => JSON.parse(line.slice(6)) as Chunk);
  const { id, object, created } = chunks[0] ?? {};
  t.match({ id, object }, { id: /^chatcmpl-\w{24}$/, object: 'chat.completion.chunk' });
  for (const chunk of chunks) t.match(chunk, { id, object, created }, 'parts of one answer');
  const ids = tokenizer.encode('Paris is nice.', false);
  t.equal(chunks.length, ids.length + 2, 'one token per chunk, then finish, then usage');
  t.same(chunks[0]?.choices[0]?.delta, { role: 'assistant', content: tokenizer.decode(ids.slice(0, 1)) });
  t.ok(chunks.slice(1).every((chunk) => chunk.choices[0]?.delta.role === undefined));
  const finish = chunks.at(-2);
  t.same(finish?.choices, [{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }]);
  t.ok(chunks.slice(0, -2).every((chunk) => chunk.choices[0]?.finish_reason === null));
  t.ok(raw.includes('"finish_reason":null') && !raw.includes('"finish_reason":""'), 'null stays null on the wire');
  t.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === null));
  const usage = chunks.at(-1);
  t.same(usage?.choices, []);
  t.equal(usage?.usage?.completion_tokens, ids.length);
  t.same(usage?.sortie?.exit_layers, { 30: ids.length });
  t.equal(chunks.filter(({ sortie }) => sortie !== undefined).length, 1, 'one report');
});

void t.test(
  'without usage the finish chunk carries the report; with continuous usage every chunk has counts',
  async (t) => {
    const server = await build(t, says('Paris is nice.'));
    const plain = await events(await server.post('/v1/chat/completions', { messages, stream: true }));
    const last = JSON.parse(plain.at(-2) ?? '') as Chunk;
    t.equal(last.choices[0]?.finish_reason, 'stop');
    t.ok(last.sortie !== undefined);
    const stream_options = { include_usage: true, continuous_usage_stats: true };
    const ask = { messages, stream: true, stream_options };
    const counted = await events(await server.post('/v1/chat/completions', ask));
    const chunks = counted.slice(0, 3).map((chunk) => JSON.parse(chunk) as Chunk);
    const counts = chunks.map(({ usage, sortie }) => ({ tokens: usage?.completion_tokens, ...sortie?.exit_layers }));
    t.same(
      counts,
      [1, 2, 3].map((tokens) => ({ tokens, 30: tokens })),
    );
  },
);

void t.test('n choices stream under their index, each with one role and one finish reason', async (t) => {
  const server = await build(t, says('Paris.', { pace: 1 }));
  const raw = await events(await server.post('/v1/chat/completions', { messages, n: 3, stream: true }));
  const chunks = raw.slice(0, -1).map((chunk) => JSON.parse(chunk) as Chunk);
  const reports = chunks.flatMap(({ sortie }) => sortie ?? []);
  t.same(reports, [chunks.at(-1)?.sortie], 'only the last chunk has the report');
  const choices = chunks.flatMap((chunk) => chunk.choices);
  for (const index of [0, 1, 2]) {
    const own = choices.filter((choice) => choice.index === index);
    t.equal(own.map(({ delta }) => delta.content ?? '').join(''), 'Paris.');
    t.equal(own.filter(({ delta }) => delta.role === 'assistant').length, 1);
    t.equal(own.filter((choice) => choice.finish_reason !== null).length, 1);
  }
});

void t.test('an empty answer still has a role chunk and a finish chunk', async (t) => {
  const server = await build(t, () => ({ tokens: [] }));
  const raw = await events(await server.post('/v1/chat/completions', { messages, stream: true }));
  const choices = raw.slice(0, -1).flatMap((chunk) => (JSON.parse(chunk) as Chunk).choices);
  const deltas = choices.map(({ delta }) => delta);
  t.same(deltas, [{ role: 'assistant', content: '' }, {}]);
});

void t.test('tool_choice "none" needs no tools, and top_logprobs 0 needs no logprobs', async (t) => {
  const server = await build(t);
  const none = { tool_choice: 'none' };
  for (const fields of [none, { tools: [], ...none }, { top_logprobs: 0 }, { logprobs: false, top_logprobs: 0 }]) {
    const response = await server.post('/v1/chat/completions', { messages, ...fields });
    t.equal(response.status, 200, JSON.stringify(fields));
    t.match(await response.json(), { choices: [{ logprobs: null }] });
  }
  const response = await server.post('/v1/chat/completions', { messages, top_logprobs: 1 });
  t.match(await response.json(), { error: { code: 'invalid_value', param: 'top_logprobs' } });
});

void t.test('logprobs: true gives token, bytes and top_logprobs', async (t) => {
  const server = await build(t, says('Paris is'));
  const ask = { messages, logprobs: true, top_logprobs: 2 };
  const entry = (id: number, logprob: number) => {
    const token = tokenizer.decode([id]);
    return { token, logprob, bytes: [...Buffer.from(token)] };
  };
  const content = tokenizer
    .encode('Paris is', false)
    .map((id) => ({ ...entry(id, -0.5), top_logprobs: [entry(id, -0.5), entry(id + 1, -1.5)] }));
  const whole = (await (await server.post('/v1/chat/completions', ask)).json()) as Chunk;
  t.same(whole.choices[0]?.logprobs, { content, refusal: null });
  const chunks = await events(await server.post('/v1/chat/completions', { ...ask, stream: true }));
  const choices = chunks.slice(0, -1).flatMap((chunk) => (JSON.parse(chunk) as Chunk).choices);
  const streamed = choices.map(({ logprobs }) => logprobs);
  const each = content.map((token) => ({ content: [token], refusal: null }));
  t.same(streamed, [...each, null], 'each token streams with its logprobs');
  const alone = await server.post('/v1/chat/completions', { messages, logprobs: true });
  const bare = { content: content.map((token) => ({ ...token, top_logprobs: [] })), refusal: null };
  t.same(((await alone.json()) as Chunk).choices[0]?.logprobs, bare, 'no alternatives without top_logprobs');
});

void t.test('content parts, developer role, max_completion_tokens', async (t) => {
  const server = await build(t);
  const asked = [
    { role: 'developer', content: 'Be brief.' },
    { role: 'user', content: texts('Hel', 'lo') },
  ];
  await server.post('/v1/chat/completions', { messages: asked, max_tokens: 9, max_completion_tokens: 5 });
  const request = server.engine.requests[0];
  t.equal(request?.maxTokens, 5);
  const prompt = tokenizer.decode(request?.prompt ?? [], { special: true });
  t.match(prompt, /^<\|im_start\|>system\nBe brief\..*user\nHello<\|im_end\|>/s);
});

void t.test(
  'a prediction reaches the engine as tokens, and usage reports the accepted and rejected ones',
  async (t) => {
    const drafts = [
      { source: 'prediction', drafted: 9, accepted: 7 },
      { source: 'lookup', drafted: 5, accepted: 1 },
    ] as const;
    const server = await build(t, says('Paris is nice.', { drafts }));
    const ask = (fields: object) => server.post('/v1/chat/completions', { messages, ...fields });
    for (const content of ['Paris is big.', texts('Paris is ', 'big.')]) {
      const response = await ask({ prediction: { type: 'content', content }, n: 2, sortie: { speculate: true } });
      t.match(await response.json(), {
        usage: { completion_tokens_details: { accepted_prediction_tokens: 14, rejected_prediction_tokens: 4 } },
        sortie: { draft_tokens: 28, accepted_draft_tokens: 16 },
      });
      const expected = { prediction: tokenizer.encode('Paris is big.', false), speculate: true };
      t.match(server.engine.requests.splice(0), [expected, expected]);
    }
    await ask({});
    t.match(server.engine.requests.at(-1), { prediction: null, speculate: null }, 'no prediction without the field');
    const wrong: [object, string][] = [
      [{ prediction: { type: 'content' } }, 'prediction.content'],
      [{ prediction: { type: 'text', content: 'x' } }, 'prediction.type'],
      [{ prediction: { type: 'content', content: 'x '.repeat(300) } }, 'prediction.content'],
      [{ sortie: { speculate: 'yes' } }, 'sortie.speculate'],
    ];
    for (const [fields, param] of wrong) {
      const rejected = await ask(fields);
      t.equal(rejected.status, 400, param);
      t.match(await rejected.json(), { error: { param } });
    }
  },
);

void t.test('a silent stream gets a comment line', async (t) => {
  const server = await build(t, says('Paris.', { pace: 120 }), { options: { keepAlive: 0.1 } });
  const raw = await (await server.post('/v1/chat/completions', { messages, stream: true })).text();
  t.match(raw, /: keep-alive\n\n/);
  const late = await build(t, says('Paris.', { prefill: 500 }), { options: { keepAlive: 0.1 } });
  const opened = await late.post('/v1/chat/completions', { messages, stream: true });
  t.match(await opened.text(), /^: keep-alive\n\n/, 'a comment line opens the stream');
  t.equal(opened.headers.get('x-exit-layer'), '30', 'with the headers of the plan');
  t.equal(opened.headers.get('x-predicted-ttft-ms'), '1.5');
});

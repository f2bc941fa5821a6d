import t from 'tap';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { build, says, tokenizer } from '../fakes/server.js';

const PATH = '/v1/chat/completions';
const messages = [{ role: 'user', content: 'What is the capital of France?' }];
const texts = (...parts: string[]) => parts.map((text) => ({ type: 'text', text }));

void t.test('a last message may stay open: the answer is its continuation alone', async (t) => {
  const server = await build(t, says(' is Paris.'));
  const ask = [...messages, { role: 'assistant', content: 'The capital, of course,' }];
  const question = '<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n';
  const head = `${question}The capital, of course,`;
  const spoken = `${head}<|im_end|>\n`;
  const open = { continue_final_message: true };
  for (const [fields, prompt] of [
    [{ ...open, add_generation_prompt: false }, head],
    [open, head],
    // Mistral's and DeepSeek's field.
    [{ messages: ask.map((each, index) => (index === 1 ? { ...each, prefix: true } : each)) }, head],
    [{}, `${spoken}<|im_start|>assistant\n`],
    [{ add_generation_prompt: false }, spoken],
    [{ continue_final_message: false, add_generation_prompt: true }, `${spoken}<|im_start|>assistant\n`],
    [{ messages: [...messages, { role: 'assistant', content: '' }], ...open }, question],
    // A message of any role, as in vLLM.
    [{ messages, ...open }, question.slice(0, question.indexOf('<|im_end|>'))],
  ] as const) {
    const { body } = await server.ask(PATH, { messages: ask, ...fields });
    t.match(body.choices[0]?.message, { role: 'assistant', content: ' is Paris.' });
    t.equal(server.prompt(), prompt, JSON.stringify(fields));
  }
});

void t.test('variables of the chat template come from the request, except the usual ones', async (t) => {
  const source =
    '{{ messages[0].content }}|{{ enable_thinking }}|{{ x.y }}|{{ add_generation_prompt }}|{{ bos_token }}|';
  const chat = new ChatTemplate(source, { bos_token: '<s>' });
  const server = await build(t, says('Paris.'), { model: { chat } });
  const ask = [{ role: 'user', content: 'Hi' }];
  const stolen = { messages: [], add_generation_prompt: false, bos_token: 'x' };
  const without = { enable_thinking: false, x: {} };
  for (const [fields, prompt] of [
    [{ chat_template_kwargs: { enable_thinking: false, x: { y: 'z' }, ...stolen } }, 'Hi|false|z|true|<s>|'],
    [{ reasoning_effort: 'none', chat_template_kwargs: { x: {} } }, 'Hi|false||true|<s>|'],
    [{ reasoning_effort: 'low', chat_template_kwargs: { x: {} } }, 'Hi|true||true|<s>|'],
    // The more exact field wins.
    [{ reasoning_effort: 'low', chat_template_kwargs: without }, 'Hi|false||true|<s>|'],
  ] as const) {
    t.equal((await server.ask(PATH, { messages: ask, ...fields })).status, 200);
    t.equal(server.prompt(), prompt);
    const counted = await server.ask('/tokenize', { messages: ask, ...fields });
    t.match(counted.body, { tokens: server.last().prompt });
  }
  const fields = { reasoning_effort: 'none', chat_template_kwargs: { enable_thinking: false } };
  t.equal((await (await build(t)).ask(PATH, { messages: ask, ...fields })).status, 200, 'asks for nothing');
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
      await server.ask(PATH, { messages });
      const { prompt, maxTokens } = server.last();
      t.equal(maxTokens, Math.min(most, 256 - prompt.length), `${maxTokensDefault ?? 'none'}`);
      await server.ask('/v1/completions', { prompt: 'x' });
      t.equal(server.last().maxTokens, 16, 'completions keep the default of OpenAI and vLLM');
    }
  },
);

void t.test('a chat answer has one assistant message', async (t) => {
  const server = await build(t, says('Paris.'));
  const { body } = await server.ask(PATH, { model: 'fake', messages });
  const message = { role: 'assistant', content: 'Paris.', refusal: null };
  t.match(body, {
    ...{ id: /^chatcmpl-\w{24}$/, object: 'chat.completion', created: Number, model: 'fake' },
    choices: [{ index: 0, message, finish_reason: 'stop', logprobs: null }],
  });
  const prompt = '<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n';
  t.equal(server.prompt(), prompt);
  const asked = [
    { role: 'developer', content: 'Be brief.' },
    { role: 'user', content: texts('Hel', 'lo') },
  ];
  await server.ask(PATH, { messages: asked });
  t.match(server.prompt(), /^<\|im_start\|>system\nBe brief\..*user\nHello<\|im_end\|>/s);
});

void t.test('raw bytes of a stream: role with the first token, one finish reason, usage, [DONE]', async (t) => {
  const server = await build(t, says('Paris is nice.'));
  const ask = { messages, stream: true, stream_options: { include_usage: true } };
  const { headers, text: raw } = await server.ask(PATH, ask);
  t.match(headers, {
    ...{ 'content-type': /^text\/event-stream/, 'cache-control': 'no-cache', 'x-exit-layer': '30' },
    // Nginx would hold events back.
    'x-accel-buffering': 'no',
  });
  t.ok(raw.endsWith('\n\ndata: [DONE]\n\n'));
  const lines = raw.split('\n\n').filter((line) => line !== '');
  t.equal(lines.filter((line) => !line.startsWith('data: ')).length, 0, 'events of one data line each');
  t.ok(raw.includes('"finish_reason":null') && !raw.includes('"finish_reason":""'), 'null stays null on the wire');
  const chunks = await server.chunks(PATH, ask);
  t.equal(chunks.length, lines.length - 1);
  const { id, object, created } = chunks[0] as unknown as Record<string, string>;
  t.match({ id, object }, { id: /^chatcmpl-\w{24}$/, object: 'chat.completion.chunk' });
  for (const chunk of chunks) t.match(chunk, { id, object, created }, 'parts of one answer');
  const ids = tokenizer.encode('Paris is nice.', false);
  t.equal(chunks.length, ids.length + 2, 'one token per chunk, then finish, then usage');
  t.same(chunks[0]?.choices[0]?.delta, { role: 'assistant', content: tokenizer.decode(ids.slice(0, 1)) });
  t.ok(chunks.slice(1).every((chunk) => chunk.choices[0]?.delta.role === undefined));
  t.same(chunks.at(-2)?.choices, [{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }]);
  t.ok(chunks.slice(0, -2).every((chunk) => chunk.choices[0]?.finish_reason === null));
  t.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === null));
  const usage = { completion_tokens: ids.length };
  t.match(chunks.at(-1), { choices: { length: 0 }, usage, sortie: { exit_layers: { 30: ids.length } } });
  t.equal(chunks.filter(({ sortie }) => sortie !== undefined).length, 1, 'one report');
});

void t.test(
  'without usage the finish chunk has the report; with continuous usage every chunk has counts',
  async (t) => {
    const server = await build(t, says('Paris is nice.'));
    const plain = await server.chunks(PATH, { messages });
    t.match(plain.at(-1), { choices: [{ finish_reason: 'stop' }], sortie: Object });
    const stream_options = { include_usage: true, continuous_usage_stats: true };
    const chunks = await server.chunks(PATH, { messages, stream_options });
    for (const [index, tokens] of [1, 2, 3].entries())
      t.match(chunks[index], { usage: { completion_tokens: tokens }, sortie: { exit_layers: { 30: tokens } } });
  },
);

void t.test('n choices stream under their index, each with one role and one finish reason', async (t) => {
  const server = await build(t, says('Paris.', { pace: 1 }));
  const chunks = await server.chunks(PATH, { messages, n: 3 });
  const reports = chunks.flatMap(({ sortie }) => sortie ?? []);
  t.same(reports, [chunks.at(-1)?.sortie], 'only the last chunk has the report');
  const choices = chunks.flatMap((chunk) => chunk.choices);
  for (const index of [0, 1, 2]) {
    const own = choices.filter((choice) => choice.index === index);
    t.equal(own.map(({ delta }) => delta.content ?? '').join(''), 'Paris.');
    t.equal(own.filter(({ delta }) => delta.role === 'assistant').length, 1);
    t.equal(own.filter((choice) => choice.finish_reason !== null).length, 1);
  }
  server.engine.script = says('');
  const empty = (await server.chunks(PATH, { messages })).flatMap((chunk) => chunk.choices);
  const deltas = empty.map(({ delta }) => delta);
  t.same(deltas, [{ role: 'assistant', content: '' }, {}], 'an empty answer has a role chunk and a finish chunk');
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
  t.same((await server.ask(PATH, ask)).body.choices[0]?.logprobs, { content, refusal: null });
  const choices = (await server.chunks(PATH, ask)).flatMap((chunk) => chunk.choices);
  const streamed = choices.map(({ logprobs }) => logprobs);
  const each = content.map((token) => ({ content: [token], refusal: null }));
  t.same(streamed, [...each, null], 'each token streams with its logprobs');
  const alone = await server.ask(PATH, { messages, logprobs: true });
  const bare = { content: content.map((token) => ({ ...token, top_logprobs: [] })), refusal: null };
  t.same(alone.body.choices[0]?.logprobs, bare, 'no alternatives without top_logprobs');
});

void t.test('usage reports the accepted and rejected tokens of a prediction', async (t) => {
  const drafts = [
    { source: 'prediction', drafted: 9, accepted: 7 },
    { source: 'lookup', drafted: 5, accepted: 1 },
  ] as const;
  const server = await build(t, says('Paris is nice.', { ended: { drafts } }));
  const prediction = { type: 'content', content: 'Paris is big.' };
  t.match((await server.ask(PATH, { messages, prediction, n: 2 })).body, {
    usage: { completion_tokens_details: { accepted_prediction_tokens: 14, rejected_prediction_tokens: 4 } },
    sortie: { draft_tokens: 28, accepted_draft_tokens: 16 },
  });
});

void t.test('a silent stream gets a comment line', async (t) => {
  const server = await build(t, says('Paris.', { pace: 120 }), { options: { keepAlive: 0.1 } });
  t.match((await server.ask(PATH, { messages, stream: true })).text, /: keep-alive\n\n/);
  server.engine.script = says('Paris.', { prefill: 500 });
  const opened = await server.ask(PATH, { messages, stream: true });
  t.match(opened.text, /^: keep-alive\n\n/, 'a comment line opens the stream');
  t.match(opened.headers, { 'x-exit-layer': '30', 'x-predicted-ttft-ms': '1.5' }, 'with the headers of the plan');
});

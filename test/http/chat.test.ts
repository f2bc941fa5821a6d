import t from 'tap';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { build, says, tokenizer } from '../fakes/server.js';
import { build as buildLong, spelt } from '../fakes/calls.js';

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

// Tools over HTTP: the answer that follows their grammar, and the prompt that describes them.

const weatherMessages = [{ role: 'user', content: 'Weather in Paris?' }];
const parameters = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};
const weather = { type: 'function', function: { name: 'get_weather', description: 'Weather of a city.', parameters } };
const tools = [weather, { type: 'function', function: { name: 'get_time' } }];
const CITY = '{"city": "São Paulo {\\"x\\": 1}"}';
const asked = { messages: weatherMessages, tools, max_tokens: 100 };

void t.test('a call is a message without content, with a finish reason of its own', async (t) => {
  const server = await buildLong(t, says(spelt('get_weather', CITY)));
  const { text, body } = await server.ask(PATH, asked);
  t.match(text, /"content":null/, 'null stays null on the wire');
  t.match(body.choices[0], { finish_reason: 'tool_calls', logprobs: null, message: { tool_calls: { length: 1 } } });
  const called = { name: 'get_weather', arguments: CITY };
  t.match(body.choices[0]?.message.tool_calls?.[0], { id: /^call_\w{20,}$/, type: 'function', function: called });
});

void t.test('streamed: role, id and name first, then pieces of arguments, an empty delta at the end', async (t) => {
  const server = await buildLong(t, says(`${spelt('get_weather', CITY)}\n${spelt('get_time', '{}')}`));
  const choices = (await server.chunks(PATH, asked)).flatMap(({ choices }) => choices);
  const [first, ...others] = choices;
  t.strictSame(Object.keys(first?.delta ?? {}), ['role', 'content', 'tool_calls']);
  const begin = { index: 0, id: /^call_/, type: 'function', function: { name: 'get_weather', arguments: '' } };
  t.match(first?.delta, { role: 'assistant', content: null, tool_calls: [begin] });
  t.ok(others.every(({ delta }) => delta.role === undefined && delta.content === undefined));
  const calls = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
  const begins = calls.filter(({ id }) => id !== undefined);
  const names = begins.map((call) => `${call.index} ${call.function.name}`);
  t.strictSame(names, ['0 get_weather', '1 get_time']);
  t.not(begins[0]?.id, begins[1]?.id);
  for (const [index, text] of [CITY, '{}'].entries()) {
    const own = calls.filter((call) => call.index === index);
    t.equal(own.map((call) => call.function.arguments).join(''), text);
    t.ok(own.length > (index === 0 ? 4 : 1), 'token by token');
  }
  t.ok(calls.every(({ id, function: { name } }) => (id === undefined) === (name === undefined)));
  t.match(choices.at(-1), { finish_reason: 'tool_calls', logprobs: null });
  t.strictSame(choices.at(-1)?.delta, {});
  t.equal(choices.filter(({ finish_reason }) => finish_reason !== null).length, 1);
});

void t.test('stop strings and log-probabilities apply to text only, not to a call', async (t) => {
  const server = await buildLong(t, says(spelt('get_weather', CITY)));
  const fields = { ...asked, stop: ['Paulo'], logprobs: true };
  const call = { function: { arguments: CITY } };
  t.match((await server.ask(PATH, fields)).body.choices[0], {
    ...{ finish_reason: 'tool_calls', logprobs: null, message: { tool_calls: [call] } },
  });
  server.engine.script = says('In São Paulo it rains.');
  t.match((await server.ask(PATH, fields)).body.choices[0], {
    ...{ finish_reason: 'stop', logprobs: { content: Array }, message: { content: 'In São ' } },
  });
});

void t.test('beside a schema, an answer is calls or JSON text, whole and streamed', async (t) => {
  const response_format = { type: 'json_schema', json_schema: { name: 'n', schema: parameters } };
  const server = await buildLong(t, says(spelt('get_weather', CITY)));
  const fields = { ...asked, response_format };
  t.match((await server.ask(PATH, fields)).body.choices[0], {
    finish_reason: 'tool_calls',
    message: { content: null, tool_calls: [{ function: { arguments: CITY } }] },
  });
  server.engine.script = says(CITY);
  t.match((await server.ask(PATH, { ...fields, logprobs: true })).body.choices[0], {
    ...{ finish_reason: 'stop', logprobs: { content: Array }, message: { content: CITY, tool_calls: undefined } },
  });
  const choices = (await server.chunks(PATH, fields)).flatMap((chunk) => chunk.choices);
  t.equal(choices.map(({ delta }) => delta.content ?? '').join(''), CITY);
  t.ok(choices.length > 3, 'the text streams from its first token on');
});

void t.test('the prompt has the tools, calls and results, also for /tokenize', async (t) => {
  const server = await buildLong(t);
  await server.ask(PATH, { messages: weatherMessages, tools });
  t.match(server.prompt(), /^<\|im_start\|>system\n# Tools\n.*"name": "get_weather".*"name": "get_time"/s);
  await server.ask(PATH, { messages: weatherMessages, tools, tool_choice: 'none' });
  t.notMatch(server.prompt(), /Tools|get_weather/, 'the prompt does not describe tools that may not be called');
  const after = (text: string) => ({
    role: 'assistant',
    content: null,
    tool_calls: [{ id: 'a', type: 'function', function: { name: 'get_weather', arguments: text } }],
  });
  const result = { role: 'tool', tool_call_id: 'a', content: [{ type: 'text', text: 'sunny' }] };
  const history = [...weatherMessages, after('{"city":"Paris"}'), result];
  await server.ask(PATH, { messages: history, tools });
  const call = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
  t.match(server.prompt(), `<|im_start|>assistant\n<tool_call>\n${call}\n</tool_call>`);
  t.match(server.prompt(), '<|im_start|>user\n<tool_response>\nsunny\n</tool_response>');
  t.match((await server.ask('/tokenize', { messages: history, tools })).body, { tokens: server.last().prompt });
  const prompts = new Set<string>();
  for (const text of ['', ' \n', '{}']) {
    await server.ask(PATH, { messages: [...weatherMessages, after(text)], tools });
    prompts.add(server.prompt());
  }
  t.equal(prompts.size, 1, 'a call without arguments may come back with an empty text');
});

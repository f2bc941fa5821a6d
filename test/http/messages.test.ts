/** POST /v1/messages and count_tokens over HTTP with a scripted engine: blocks, events, errors. */
import t from 'tap';
import { READY } from '../fakes/engine.js';
import { build, chatOfCalls, spelt } from '../fakes/calls.js';
import { says, streamed, type TestServer } from '../fakes/server.js';

const PATH = '/v1/messages';
const messages = [{ role: 'user', content: 'Weather in Paris?' }];
const input_schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = { name: 'get_weather', description: 'Weather of a city.', input_schema };
const base = { messages, max_tokens: 100 };
const text = (said: string, more: object = {}) => ({ type: 'text', text: said, ...more });
const use = (id: string, city: string) => ({ type: 'tool_use', id, name: 'get_weather', input: { city } });

interface Whole {
  content: { id?: string; text?: string; input?: unknown }[];
  stop_reason: string;
  stop_sequence: string | null;
  usage: { input_tokens: number; cache_read_input_tokens: number };
}
const whole = async (server: TestServer, fields: object = {}) =>
  (await server.ask(PATH, { ...base, ...fields })).body as unknown as Whole;

const events = (server: TestServer, fields: object = {}) => streamed(server, PATH, { ...base, ...fields });

void t.test('a whole message has its blocks, usage and report; both ids are headers', async (t) => {
  const server = await build(t, says('It rains.'));
  const more = { 'x-latency-budget-ms': '250', 'anthropic-version': '2023-06-01', 'x-request-id': 'mine' };
  const fields = { ...base, system: 'Be brief.', metadata: { user_id: 'ann' } };
  const { headers, body } = await server.ask(PATH, fields, more);
  t.match(headers, { 'x-exit-layer': '30', 'request-id': 'mine', 'x-request-id': 'mine' });
  t.match(body, {
    ...{ id: /^msg_\w+$/, type: 'message', role: 'assistant', model: 'fake' },
    content: [{ type: 'text', text: 'It rains.' }],
    ...{ stop_reason: 'end_turn', stop_sequence: null },
    usage: {
      input_tokens: server.last().prompt.length - 2,
      ...{ cache_read_input_tokens: 2, cache_creation_input_tokens: 0, output_tokens: 3 },
    },
    sortie: { budget_ms: 250, plan: { exit_layer: 30 } },
  });
  t.match(server.prompt(), '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWeather in Paris?<|im_end|>');
});

void t.test('a stream has the events of a message in their order, and a ping while it is silent', async (t) => {
  const server = await build(t, says('It rains.'));
  const told = await events(server);
  const names = told.map(({ name }) => name);
  t.strictSame(names, [
    ...['message_start', 'content_block_start', 'ping'],
    ...['content_block_delta', 'content_block_delta', 'content_block_delta'],
    ...['content_block_stop', 'message_delta', 'message_stop'],
  ]);
  t.ok(told.every(({ name, data }) => data.type === name));
  t.match(told[0]?.data, { message: { content: [], stop_reason: null, usage: { input_tokens: Number } } });
  const deltas = told.flatMap(({ data }) => (data.delta as { text?: string } | undefined)?.text ?? []);
  t.equal(deltas.join(''), 'It rains.');
  t.match(told.at(-2)?.data, {
    delta: { stop_reason: 'end_turn', stop_sequence: null },
    usage: { output_tokens: 3, cache_read_input_tokens: 2 },
    sortie: { exit_layers: { 30: 3 } },
  });
  const slow = await build(t, says('x', { prefill: 300 }), { options: { keepAlive: 0.05 } });
  t.strictSame((await events(slow))[0], { name: 'ping', data: { type: 'ping' } });
});

void t.test('the reason of the end: a stop sequence, max_tokens, the context, an empty answer', async (t) => {
  const server = await build(t, says('It rains in Paris.'));
  const ends = async (fields: object, stop_reason: string, stop_sequence: string | null): Promise<void> => {
    t.match(await whole(server, fields), { stop_reason, stop_sequence, content: [{ text: /^It rains$/ }] });
    t.match((await events(server, fields)).at(-2)?.data, { delta: { stop_reason, stop_sequence } });
  };
  await ends({ stop_sequences: ['x', ' in'] }, 'stop_sequence', ' in');
  await ends({ max_tokens: 2 }, 'max_tokens', null);
  server.engine.ready = { ...READY, maxLength: server.last().prompt.length + 2 };
  await ends({ max_tokens: 32_000 }, 'model_context_window_exceeded', null);
  server.engine.script = says('');
  t.match(await whole(server), { content: { length: 0 }, stop_reason: 'end_turn' });
});

void t.test('each call is a block, and its input comes in pieces', async (t) => {
  const calls = `${spelt('get_weather', '{"city": "Paris"}')}\n${spelt('get_weather', '{"city": "Oslo"}')}`;
  const server = await build(t, says(calls));
  const tools = [weather];
  const { content, stop_reason } = await whole(server, { tools });
  t.equal(stop_reason, 'tool_use');
  t.match(content, [
    { type: 'tool_use', id: /^toolu_/, name: 'get_weather', input: { city: 'Paris' } },
    { type: 'tool_use', id: /^toolu_/, name: 'get_weather', input: { city: 'Oslo' } },
  ]);
  t.not(content[0]?.id, content[1]?.id);
  const told = await events(server, { tools });
  for (const index of [0, 1]) {
    const own = told.filter(({ data }) => data.index === index);
    t.match(own[0], { name: 'content_block_start', data: { content_block: { type: 'tool_use', input: {} } } });
    t.equal(own.at(-1)?.name, 'content_block_stop');
    const pieces = own.flatMap(({ data }) => (data.delta as { partial_json?: string } | undefined)?.partial_json ?? []);
    t.ok(pieces.length > 3, 'token by token');
    t.strictSame(JSON.parse(pieces.join('')), content[index]?.input);
  }
  t.match(told.at(-2)?.data, { delta: { stop_reason: 'tool_use' } });
  const cut = await whole(server, { tools, max_tokens: 14 });
  t.match(cut, { content: [{ type: 'tool_use', input: {} }], stop_reason: 'max_tokens' });
});

void t.test('the answer continues a last message of the assistant, and the count is that of the prompt', async (t) => {
  const server = await build(t, says(' is Paris.'));
  const spoken = [...messages, { role: 'assistant', content: [text('The capital')] }];
  t.match(await whole(server, { messages: spoken }), { content: [text(' is Paris.')] });
  t.match(server.prompt(), /assistant\nThe capital$/);
  const count = await server.ask(`${PATH}/count_tokens`, { model: 'fake', messages: spoken });
  t.strictSame(count.body, { input_tokens: server.last().prompt.length });
  const called = { role: 'assistant', content: [use('a', 'Paris')] };
  await whole(server, { messages: [...messages, called], tools: [weather] });
  t.match(server.prompt(), /<\|im_end\|>\n<\|im_start\|>assistant\n$/, 'a message with calls is complete');
});

void t.test('blocks become the messages of a chat; thinking and cache_control have no effect', async (t) => {
  const server = await build(t);
  const asked = [text('Weather', { cache_control: { type: 'ephemeral' } }), text('?')];
  const thought = { type: 'thinking', thinking: 'Hm.', signature: 'x' };
  const uses = [thought, text('I look.', { citations: null }), use('a', 'Paris'), use('b', 'Oslo')];
  const results = [
    { type: 'tool_result', tool_use_id: 'a', content: 'sunny' },
    { type: 'tool_result', tool_use_id: 'b', content: [text('no such city')], is_error: true },
    text('Go on.'),
  ];
  const turns = [asked, uses, results].map((content, i) => ({ role: i === 1 ? 'assistant' : 'user', content }));
  const counted = { system: [text('Be brief.'), text('Use tools.')], messages: turns, tools: [weather], model: 'fake' };
  const body = { ...base, ...counted, thinking: { type: 'adaptive' } };
  await server.ask(PATH, body);
  const chat = [...chatOfCalls(['sunny', 'Error: no such city']), { role: 'user', content: 'Go on.' }];
  const { name, description, input_schema: parameters } = weather;
  const tools = [{ type: 'function', function: { name, description, parameters } }];
  await server.ask('/v1/chat/completions', { messages: chat, tools });
  const [one, other] = server.engine.requests;
  t.strictSame([one?.prompt, one?.grammar], [other?.prompt, other?.grammar], 'the request of the chat');
  const count = { input_tokens: one?.prompt.length };
  t.strictSame((await server.ask(`${PATH}/count_tokens?beta=true`, counted)).body, count);
  t.strictSame((await server.ask(`${PATH}/count_tokens`, body)).body, count, 'a whole body counts, too');
});

void t.test('texts before and between results follow the results, which belong to their calls', async (t) => {
  const server = await build(t);
  const result = (id: string) => ({ type: 'tool_result', tool_use_id: id, content: `result ${id}` });
  const after = async (...content: object[]) => {
    const called = { role: 'assistant', content: [use('a', 'Paris'), use('b', 'Paris')] };
    const turns = [...messages, called, { role: 'user', content }];
    return (await server.ask(PATH, { ...base, messages: turns, tools: [weather] })).body;
  };
  await after(text('Here '), text('it is.'), result('a'), text('And:'), result('b'), text('Go on.'));
  await after(result('a'), result('b'), text('Here it is.\n\nAnd:\n\nGo on.'));
  const [one, other] = server.engine.requests;
  t.strictSame(one?.prompt, other?.prompt);
  const unknown = await after(text('Here it is.'), result('a'), result('c'));
  t.match(unknown, { error: { param: 'messages[2].content[2].tool_use_id' } });
});

void t.test('each status has its type of error, before routing, too', async (t) => {
  const server = await build(t, undefined, { apiKeys: ['sesame'], options: { maxBody: 2048 } });
  const key = { 'x-api-key': 'sesame' };
  const fails = async (status: number, type: string, fields: object | string, headers = key, path = PATH) => {
    const body = typeof fields === 'string' ? fields : { ...base, ...fields };
    t.match(await server.ask(path, body, headers), { status, body: { type: 'error', error: { type } } });
  };
  for (const own of [key, { authorization: 'Bearer sesame' }])
    t.equal((await server.ask(PATH, base, own)).status, 200, JSON.stringify(own));
  await fails(401, 'authentication_error', {}, { 'x-api-key': '' });
  await fails(404, 'not_found_error', { model: 'claude' });
  await fails(413, 'request_too_large', { system: 'x'.repeat(3000) });
  await fails(400, 'invalid_request_error', '{');
  await fails(400, 'invalid_request_error', { messages: undefined }, key, `${PATH}/count_tokens`);
  server.engine.script = () => ({ tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } });
  for (const stream of [false, true]) await fails(429, 'rate_limit_error', { stream });
  server.context.draining = true;
  await fails(503, 'overloaded_error', {});
});

/** POST /v1/messages and count_tokens over HTTP with a scripted engine: blocks, events, errors. */
import t from 'tap';
import { READY } from '../fakes/engine.js';
import { build, chatOfCalls, spelt } from '../fakes/calls.js';
import { namedEvents } from '../fakes/named-events.js';
import { says, tokenizer } from '../fakes/server.js';

const PATH = '/v1/messages';
const messages = [{ role: 'user', content: 'Weather in Paris?' }];
const input_schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = { name: 'get_weather', description: 'Weather of a city.', input_schema };
const base = { messages, max_tokens: 100 };

interface Whole {
  content: { type: string; id?: string; text?: string; input?: unknown }[];
  stop_reason: string;
  stop_sequence: string | null;
  usage: { input_tokens: number; cache_read_input_tokens: number };
}

void t.test('a whole message has its blocks, usage and report; both ids are headers', async (t) => {
  const server = await build(t, says('It rains.'));
  const headers = { 'x-latency-budget-ms': '250', 'anthropic-version': '2023-06-01', 'x-request-id': 'mine' };
  const response = await server.post(PATH, { ...base, system: 'Be brief.', metadata: { user_id: 'ann' } }, headers);
  t.match(Object.fromEntries(response.headers), { 'x-exit-layer': '30', 'request-id': 'mine', 'x-request-id': 'mine' });
  const message = (await response.json()) as Whole;
  t.match(message, {
    ...{ id: /^msg_\w+$/, type: 'message', role: 'assistant', model: 'fake' },
    content: [{ type: 'text', text: 'It rains.' }],
    ...{ stop_reason: 'end_turn', stop_sequence: null },
    usage: { cache_read_input_tokens: 2, cache_creation_input_tokens: 0, output_tokens: 3 },
    sortie: { budget_ms: 250, plan: { exit_layer: 30 } },
  });
  const [request] = server.engine.requests;
  t.equal(message.usage.input_tokens + message.usage.cache_read_input_tokens, request?.prompt.length);
  const prompt = tokenizer.decode(request?.prompt ?? [], { special: true });
  t.match(prompt, '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWeather in Paris?<|im_end|>');
});

void t.test('a stream has the events of a message in their order, and ends without [DONE]', async (t) => {
  const server = await build(t, says('It rains.'));
  const last: string[] = [];
  const events = namedEvents(await (await server.post(PATH, { ...base, stream: true })).text(), last);
  const names = events.map(({ name }) => name);
  t.strictSame(names, [
    ...['message_start', 'content_block_start', 'ping'],
    ...['content_block_delta', 'content_block_delta', 'content_block_delta'],
    ...['content_block_stop', 'message_delta', 'message_stop'],
  ]);
  t.ok(events.every(({ name, data }) => data.type === name));
  t.strictSame(last, []);
  t.match(events[0]?.data, { message: { content: [], stop_reason: null, usage: { input_tokens: Number } } });
  const deltas = events.flatMap(({ data }) => (data.delta as { text?: string } | undefined)?.text ?? []);
  t.equal(deltas.join(''), 'It rains.');
  t.match(events.at(-2)?.data, {
    delta: { stop_reason: 'end_turn', stop_sequence: null },
    usage: { output_tokens: 3, cache_read_input_tokens: 2 },
    sortie: { exit_layers: { 30: 3 } },
  });
});

void t.test(
  'the reason of the end: a stop sequence, max_tokens, the end of the context, an empty answer',
  async (t) => {
    const server = await build(t, says('It rains in Paris.'));
    const end = async (fields: object): Promise<object> => {
      const answer = await server.post(PATH, { ...base, ...fields });
      const { stop_reason, stop_sequence, content } = (await answer.json()) as Whole;
      const events = namedEvents(await (await server.post(PATH, { ...base, ...fields, stream: true })).text());
      t.match(events.at(-2)?.data, { delta: { stop_reason, stop_sequence } }, 'the stream ends alike');
      return { stop_reason, stop_sequence, text: content[0]?.text };
    };
    const stopped = { stop_reason: 'stop_sequence', stop_sequence: ' in', text: 'It rains' };
    t.strictSame(await end({ stop_sequences: ['x', ' in'] }), stopped);
    t.strictSame(await end({ max_tokens: 2 }), { stop_reason: 'max_tokens', stop_sequence: null, text: 'It rains' });
    const { length } = server.engine.requests[0]?.prompt ?? [];
    server.engine.ready = { ...READY, maxLength: length + 2 };
    const full = { stop_reason: 'model_context_window_exceeded', stop_sequence: null, text: 'It rains' };
    t.strictSame(await end({ max_tokens: 32_000 }), full);
    const empty = await build(t, says(''));
    t.match(await (await empty.post(PATH, base)).json(), { content: [], stop_reason: 'end_turn' });
  },
);

void t.test('each call is a block, and its input comes in pieces', async (t) => {
  const calls = `${spelt('get_weather', '{"city": "Paris"}')}\n${spelt('get_weather', '{"city": "Oslo"}')}`;
  const server = await build(t, says(calls));
  const body = { ...base, tools: [weather] };
  const { content, stop_reason } = (await (await server.post(PATH, body)).json()) as Whole;
  t.equal(stop_reason, 'tool_use');
  t.match(content, [
    { type: 'tool_use', id: /^toolu_/, name: 'get_weather', input: { city: 'Paris' } },
    { type: 'tool_use', id: /^toolu_/, name: 'get_weather', input: { city: 'Oslo' } },
  ]);
  t.not(content[0]?.id, content[1]?.id);
  const events = namedEvents(await (await server.post(PATH, { ...body, stream: true })).text());
  for (const index of [0, 1]) {
    const own = events.filter(({ data }) => data.index === index);
    t.match(own[0], { name: 'content_block_start', data: { content_block: { type: 'tool_use', input: {} } } });
    t.equal(own.at(-1)?.name, 'content_block_stop');
    const pieces = own.flatMap(({ data }) => (data.delta as { partial_json?: string } | undefined)?.partial_json ?? []);
    t.ok(pieces.length > 3, 'token by token');
    t.strictSame(JSON.parse(pieces.join('')), content[index]?.input);
  }
  t.match(events.at(-2)?.data, { delta: { stop_reason: 'tool_use' } });
  const cut = await server.post(PATH, { ...body, max_tokens: 14 });
  t.match(await cut.json(), { content: [{ type: 'tool_use', input: {} }], stop_reason: 'max_tokens' });
});

void t.test('the answer continues a last message of the assistant, and the count is that of the prompt', async (t) => {
  const server = await build(t, says(' is Paris.'));
  const spoken = [...base.messages, { role: 'assistant', content: [{ type: 'text', text: 'The capital' }] }];
  const answer = (await (await server.post(PATH, { ...base, messages: spoken })).json()) as Whole;
  t.match(answer.content, [{ type: 'text', text: ' is Paris.' }]);
  const prompt = server.engine.requests.at(-1)?.prompt ?? [];
  t.match(tokenizer.decode(prompt, { special: true }), /assistant\nThe capital$/);
  const count = await server.post(`${PATH}/count_tokens`, { model: 'fake', messages: spoken });
  t.strictSame(await count.json(), { input_tokens: prompt.length });
});

void t.test('blocks become the messages of a chat; thinking and cache_control have no effect', async (t) => {
  const server = await build(t);
  const text = (said: string, more: object = {}) => ({ type: 'text', text: said, ...more });
  const asked = [text('Weather', { cache_control: { type: 'ephemeral' } }), text('?')];
  const uses = [
    { type: 'thinking', thinking: 'Hm.', signature: 'x' },
    text('I look.', { citations: null }),
    { type: 'tool_use', id: 'a', name: 'get_weather', input: { city: 'Paris' } },
    { type: 'tool_use', id: 'b', name: 'get_weather', input: { city: 'Oslo' } },
  ];
  const results = [
    { type: 'tool_result', tool_use_id: 'a', content: 'sunny' },
    { type: 'tool_result', tool_use_id: 'b', content: [text('no such city')], is_error: true },
    text('Go on.'),
  ];
  const turns = [asked, uses, results].map((content, i) => ({ role: i === 1 ? 'assistant' : 'user', content }));
  const system = [text('Be brief.'), text('Use tools.')];
  const body = { ...base, system, messages: turns, tools: [weather], thinking: { type: 'adaptive' } };
  const response = await server.post(PATH, body);
  t.equal(response.status, 200, await response.text());
  const chat = [...chatOfCalls(['sunny', 'Error: no such city']), { role: 'user', content: 'Go on.' }];
  const { name, description, input_schema: parameters } = weather;
  const tools = [{ type: 'function', function: { name, description, parameters } }];
  await server.post('/v1/chat/completions', { messages: chat, tools });
  const [one, other] = server.engine.requests;
  t.strictSame(one?.prompt, other?.prompt, 'the prompt of the chat');
  t.strictSame(one?.grammar, other?.grammar);
  const counted = { system, messages: turns, tools: [weather], model: 'fake' };
  const answer = await (await server.post(`${PATH}/count_tokens?beta=true`, counted)).json();
  t.strictSame(answer, { input_tokens: one?.prompt.length });
  t.strictSame(await (await server.post(`${PATH}/count_tokens`, body)).json(), answer, 'a whole body counts, too');
});

void t.test('texts before and between results follow the results, which belong to their calls', async (t) => {
  const server = await build(t);
  const text = (said: string) => ({ type: 'text', text: said });
  const use = (id: string) => ({ type: 'tool_use', id, name: 'get_weather', input: { city: 'Paris' } });
  const result = (id: string) => ({ type: 'tool_result', tool_use_id: id, content: `result ${id}` });
  const turns = (...content: object[]) => ({
    ...base,
    messages: [...messages, { role: 'assistant', content: [use('a'), use('b')] }, { role: 'user', content }],
    tools: [weather],
  });
  const early = turns(text('Here '), text('it is.'), result('a'), text('And:'), result('b'), text('Go on.'));
  const answer = await server.post(PATH, early);
  t.equal(answer.status, 200, await answer.text());
  await server.post(PATH, turns(result('a'), result('b'), text('Here it is.\n\nAnd:\n\nGo on.')));
  const [one, other] = server.engine.requests;
  t.strictSame(one?.prompt, other?.prompt);
  const unknown = await server.post(PATH, turns(text('Here it is.'), result('a'), result('c')));
  t.match(await unknown.json(), { error: { param: 'messages[2].content[2].tool_use_id' } });
});

void t.test('tool choices, formats and other fields reach the engine', async (t) => {
  const server = await build(t, says('x'));
  const ask = async (fields: object) => {
    await server.post(PATH, { ...base, ...fields });
    return server.engine.requests.at(-1);
  };
  const tools = [weather, { type: 'custom', name: 'get_time', input_schema: { type: 'object' } }];
  const callsOf = async (tool_choice?: object): Promise<unknown> => {
    const grammar = (await ask({ tools, tool_choice }))?.grammar;
    if (grammar?.kind !== 'calls') return grammar;
    return [...grammar.functions.map(({ name }) => name), grammar.isOptional, grammar.most];
  };
  t.strictSame(await callsOf(), ['get_weather', 'get_time', true, 16]);
  t.strictSame(await callsOf({ type: 'auto', disable_parallel_tool_use: true }), ['get_weather', 'get_time', true, 1]);
  t.strictSame(await callsOf({ type: 'any' }), ['get_weather', 'get_time', false, 16]);
  t.strictSame(await callsOf({ type: 'tool', name: 'get_time' }), ['get_time', false, 1]);
  t.equal(await callsOf({ type: 'none' }), null);
  t.match(await ask({ tools: [], tool_choice: { type: 'auto' } }), { grammar: null });
  const schema = { type: 'object', properties: { a: { type: 'string' } } };
  const format = { type: 'json_schema', schema };
  const grammar = { kind: 'json', schema: JSON.stringify(schema) };
  t.match(await ask({ output_config: { format, effort: 'low' } }), { grammar });
  const long = { type: 'object', properties: { a: { type: 'string', maxLength: 524_288 } }, required: ['a'] };
  const script = { name: 'run', input_schema: long };
  const unbounded = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}';
  t.match((await ask({ tools: [script] }))?.grammar, { functions: [{ schema: unbounded }] });
  const strict = await server.post(PATH, { ...base, tools: [{ ...script, strict: true }] });
  t.match(await strict.json(), { error: { param: 'tools[0].input_schema', message: /at most 4096/ } });
  const all = { seed: 7, top_k: 5, temperature: 0.5, max_tokens: 9, sortie: { exit_layer: 15 } };
  t.match(await ask(all), { maxTokens: 9, sampling: { seed: 7, topK: 5, temperature: 0.5 }, depth: { maxExit: 15 } });
});

void t.test('an error has the form of Anthropic and names the parameter as the client wrote it', async (t) => {
  const server = await build(t);
  const user = { role: 'user', content: 'x' };
  const blocks = (role: string, ...content: object[]) => ({ messages: [user, { role, content }] });
  const place = 'messages[1].content[0]';
  const use = { type: 'tool_use', id: 'a', name: 'f', input: {} };
  const result = { type: 'tool_result', tool_use_id: 'z' };
  const wrong: [object, string, string?][] = [
    [{ messages: undefined }, 'messages'],
    [{ messages: [] }, 'messages'],
    [{ max_tokens: undefined }, 'max_tokens'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages[0].role'],
    [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
    [{ messages: [{ role: 'user', content: [] }] }, 'messages'],
    [blocks('user', { type: 'image', source: {} }), `${place}.type`, 'unsupported_parameter'],
    [blocks('user', { type: 'text' }), `${place}.text`],
    [blocks('user', use), `${place}.type`, 'unsupported_parameter'],
    [blocks('assistant', { type: 'tool_result', tool_use_id: 'a' }), `${place}.type`, 'unsupported_parameter'],
    [blocks('assistant', { ...use, input: undefined }), `${place}.input`],
    [blocks('assistant', { ...use, input: 'x' }), `${place}.input`],
    [blocks('assistant', { type: 'thinking', signature: 'x' }), `${place}.thinking`],
    [blocks('user', { type: 'thinking' }), `${place}.type`, 'unsupported_parameter'],
    [blocks('user', result), `${place}.tool_use_id`],
    [blocks('user', { ...result, content: [{ type: 'image' }] }), `${place}.content[0].type`, 'unsupported_parameter'],
    [{ system: [{ type: 'image' }] }, 'system[0].type', 'unsupported_parameter'],
    [{ messages: [{ role: 'user', content: 'word '.repeat(3000) }] }, 'messages', 'context_length_exceeded'],
    [{ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 'tools[0].type', 'unsupported_parameter'],
    [{ tools: [{ name: 'f' }] }, 'tools[0].input_schema'],
    [{ tools: [weather, weather] }, 'tools[1].name'],
    [{ tools: [{ ...weather, input_schema: { type: 'string' } }] }, 'tools[0].input_schema'],
    [{ tools: [weather], tool_choice: { type: 'tool', name: 'x' } }, 'tool_choice'],
    [{ tool_choice: { type: 'any' } }, 'tool_choice'],
    [{ stop_sequences: [''] }, 'stop_sequences[0]'],
    [{ stop_sequences: ['\ud800'] }, 'stop_sequences'],
    [{ mcp_servers: [{}] }, 'mcp_servers', 'unsupported_parameter'],
    [{ container: 'x' }, 'container', 'unsupported_parameter'],
    [{ stop: 'x' }, 'stop', 'unsupported_parameter'],
    [{ temperature: 9 }, 'temperature'],
  ];
  for (const [fields, param, code = 'invalid_value'] of wrong) {
    await t.test(JSON.stringify(fields).slice(0, 90), async (t) => {
      const response = await server.post(PATH, { ...base, ...fields });
      const body = (await response.json()) as { error: { message: string } };
      const error = { type: 'invalid_request_error', param, code };
      const request_id = response.headers.get('request-id');
      t.strictSame(response.status, 400, JSON.stringify(fields).slice(0, 90));
      t.match(body, { type: 'error', error, request_id }, JSON.stringify(fields).slice(0, 90));
      if (code !== 'context_length_exceeded') t.ok(body.error.message.startsWith(param), body.error.message);
    });
  }
});

void t.test('each status has its type of error, before routing, too', async (t) => {
  const rejected = await build(t, () => ({ tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } }));
  const server = await build(t, undefined, { apiKeys: ['sesame'], options: { maxBody: 2048 } });
  const key = { 'x-api-key': 'sesame' };
  const ask = async (response: Promise<Response>): Promise<unknown[]> => {
    const answer = await response;
    const { type, error } = (await answer.json()) as { type: string; error: { type: string } };
    return [answer.status, type, error.type];
  };
  t.strictSame(await ask(server.post(PATH, base)), [401, 'error', 'authentication_error']);
  t.equal((await server.post(PATH, base, key)).status, 200, 'x-api-key');
  t.equal((await server.post(PATH, base, { authorization: 'Bearer sesame' })).status, 200, 'Authorization');
  t.strictSame(await ask(server.post(PATH, { ...base, model: 'claude' }, key)), [404, 'error', 'not_found_error']);
  const large = { ...base, system: 'x'.repeat(3000) };
  t.strictSame(await ask(server.post(PATH, large, key)), [413, 'error', 'request_too_large']);
  t.strictSame(await ask(server.post(PATH, '{', key)), [400, 'error', 'invalid_request_error']);
  t.strictSame(await ask(server.post(`${PATH}/count_tokens`, {}, key)), [400, 'error', 'invalid_request_error']);
  t.strictSame(await ask(rejected.post(PATH, base)), [429, 'error', 'rate_limit_error']);
  t.strictSame(await ask(rejected.post(PATH, { ...base, stream: true })), [429, 'error', 'rate_limit_error']);
  server.context.draining = true;
  t.strictSame(await ask(server.post(PATH, base, key)), [503, 'error', 'overloaded_error']);
});

void t.test('a failure after the first token is an error event, and the last one', async (t) => {
  const server = await build(t, says('one two three', { loseAfter: 2 }));
  const response = await server.post(PATH, { ...base, stream: true });
  const events = namedEvents(await response.text());
  t.match(events[0]?.name, 'message_start');
  const error = { type: 'overloaded_error', code: 'engine_lost', message: String };
  const request_id = response.headers.get('request-id');
  t.match(events.at(-1), { name: 'error', data: { type: 'error', error, request_id } });
  t.notOk(events.some(({ name }) => name === 'message_stop'));
});

void t.test('a silent stream gets pings', async (t) => {
  const server = await build(t, says('x', { prefill: 300 }), { options: { keepAlive: 0.05 } });
  const events = namedEvents(await (await server.post(PATH, { ...base, stream: true })).text());
  t.strictSame(events[0], { name: 'ping', data: { type: 'ping' } });
  t.equal(events.at(-1)?.name, 'message_stop');
});

/** POST /v1/responses over HTTP with a scripted engine: items, events, errors. */
import t from 'tap';
import { build, chatOfCalls, spelt } from '../fakes/calls.js';
import { namedEvents } from '../fakes/named-events.js';
import { says, tokenizer } from '../fakes/server.js';

const PATH = '/v1/responses';
const input = 'Weather in Paris?';
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = { type: 'function', name: 'get_weather', description: 'Weather of a city.', parameters };

interface Item {
  type: string;
  id: string;
  status: string;
  content?: { text: string; logprobs: unknown[] }[];
  arguments?: string;
}
interface Whole {
  status: string;
  output: Item[];
  usage: unknown;
}

void t.test('a whole response has the items, the usage, the settings used and the report', async (t) => {
  const server = await build(t, says('It rains.'));
  const metadata = { a: 'b' };
  const headers = { 'x-latency-budget-ms': '250' };
  const body = { input, instructions: 'Be brief.', temperature: 0.5, metadata, store: true, user: 'ann' };
  const response = await server.post(PATH, body, headers);
  const content = { type: 'output_text', text: 'It rains.', annotations: [], logprobs: [] };
  t.equal(response.headers.get('x-exit-layer'), '30');
  t.match(await response.json(), {
    ...{ id: /^resp_\w+$/, object: 'response', status: 'completed', incomplete_details: null, error: null },
    output: [{ type: 'message', id: /^msg_\w+$/, status: 'completed', role: 'assistant', content: [content] }],
    usage: {
      ...{ input_tokens: Number, input_tokens_details: { cached_tokens: 2 }, total_tokens: Number },
      ...{ output_tokens: 3, output_tokens_details: { reasoning_tokens: 0 } },
    },
    ...{ instructions: 'Be brief.', temperature: 0.5, top_p: 0.95, metadata, store: false, user: 'ann' },
    ...{ tools: [], tool_choice: 'auto', text: { format: { type: 'text' } }, previous_response_id: null },
    sortie: { budget_ms: 250, plan: { exit_layer: 30 } },
  });
  t.equal(server.engine.requests[0]?.depth.budget?.totalMs, 250);
  const prompt = tokenizer.decode(server.engine.requests[0]?.prompt ?? [], { special: true });
  t.match(prompt, '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWeather in Paris?<|im_end|>');
});

void t.test('a stream has all events of a message, numbered, from created to completed', async (t) => {
  const server = await build(t, says('It rains.'));
  const last: string[] = [];
  const text = await (await server.post(PATH, { input, stream: true })).text();
  const events = namedEvents(text, last);
  const names = events.map(({ name }) => name.replace('response.', ''));
  t.strictSame(names, [
    ...['created', 'in_progress', 'output_item.added', 'content_part.added'],
    ...['output_text.delta', 'output_text.delta', 'output_text.delta'],
    ...['output_text.done', 'content_part.done', 'output_item.done', 'completed'],
  ]);
  t.ok(events.every(({ data }, index) => data.sequence_number === index));
  t.ok(events.every(({ name, data }) => data.type === name));
  t.strictSame(last, [], 'no [DONE]');
  const [created] = events;
  t.match(created?.data, { response: { status: 'in_progress', output: [], usage: null } });
  const final = events.at(-1)?.data.response as Whole & { sortie: object };
  t.match(final, { status: 'completed', output: [{ content: [{ text: 'It rains.' }] }], sortie: { exit_layers: {} } });
  const deltas = events.flatMap(({ name, data }) => (name.endsWith('text.delta') ? [data.delta] : []));
  t.equal(deltas.join(''), 'It rains.');
  const { output } = (await (await server.post(PATH, { input })).json()) as Whole;
  const bare = (items: Item[]) => items.map((item) => ({ ...item, id: '' }));
  t.strictSame(bare(final.output), bare(output), 'the whole response has the same items');
});

void t.test('an answer that max_output_tokens cut is incomplete, whole and streamed', async (t) => {
  const server = await build(t, says('It rains in Paris.'));
  const body = { input, max_output_tokens: 2 };
  const incomplete = { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' }, completed_at: null };
  const output = [{ status: 'incomplete', content: [{ text: 'It rains' }] }];
  t.match(await (await server.post(PATH, body)).json(), { ...incomplete, output, max_output_tokens: 2 });
  const events = namedEvents(await (await server.post(PATH, { ...body, stream: true })).text());
  t.match(events.at(-1), { name: 'response.incomplete', data: { response: { ...incomplete, output } } });
});

void t.test('an empty answer is a message with an empty text', async (t) => {
  const server = await build(t, says(''));
  const { output } = (await (await server.post(PATH, { input })).json()) as Whole;
  t.match(output, [{ status: 'completed', content: [{ text: '' }] }]);
  const events = namedEvents(await (await server.post(PATH, { input, stream: true })).text());
  t.match(events.at(-1)?.data, { response: { output: [{ content: [{ text: '' }] }] } });
  t.notOk(events.some(({ name }) => name === 'response.output_text.delta'));
});

void t.test('each call is an item of its own, and its arguments come in pieces', async (t) => {
  const calls = `${spelt('get_weather', '{"city": "Paris"}')}\n${spelt('get_weather', '{"city": "Oslo"}')}`;
  const server = await build(t, says(calls));
  const body = { input, tools: [weather], max_output_tokens: 200 };
  const { output, status } = (await (await server.post(PATH, body)).json()) as Whole;
  t.equal(status, 'completed');
  t.match(output, [
    { type: 'function_call', id: /^fc_/, call_id: /^call_/, name: 'get_weather', arguments: '{"city": "Paris"}' },
    { type: 'function_call', arguments: '{"city": "Oslo"}', status: 'completed' },
  ]);
  t.not(output[0]?.id, output[1]?.id);
  const events = namedEvents(await (await server.post(PATH, { ...body, stream: true })).text());
  for (const index of [0, 1]) {
    const own = events.filter(({ data }) => data.output_index === index);
    const names = own.map(({ name }) => name.replace('response.', ''));
    t.equal(names[0], 'output_item.added');
    t.strictSame(names.slice(-2), ['function_call_arguments.done', 'output_item.done']);
    t.ok(names.slice(1, -2).every((name) => name === 'function_call_arguments.delta') && names.length > 5);
    const pieces = own.map(({ data }) => (data as { delta?: string }).delta ?? '').join('');
    t.equal(pieces, output[index]?.arguments);
    t.match(own[0]?.data, { item: { status: 'in_progress', arguments: '' } });
    t.match(own.at(-1)?.data, { item: { status: 'completed', arguments: pieces } });
  }
});

void t.test('items become the messages of a chat; reasoning has no effect', async (t) => {
  const server = await build(t);
  const looking = { type: 'output_text', text: 'I look.', annotations: [] };
  const items = [
    { role: 'developer', content: 'Use tools.' },
    { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'Weather?' }] },
    { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'x' },
    { type: 'message', role: 'assistant', content: [looking], id: 'm' },
    { type: 'function_call', call_id: 'a', name: 'get_weather', arguments: '{"city":"Paris"}', id: null },
    { type: 'function_call', call_id: 'b', name: 'get_weather', arguments: '{"city":"Oslo"}' },
    { type: 'function_call_output', call_id: 'a', output: 'sunny' },
    { type: 'function_call_output', call_id: 'b', output: [{ type: 'input_text', text: 'snow' }] },
  ];
  const response = await server.post(PATH, { instructions: 'Be brief.', input: items, tools: [weather] });
  t.equal(response.status, 200, await response.text());
  const messages = chatOfCalls(['sunny', 'snow']);
  const { type, ...rest } = weather;
  await server.post('/v1/chat/completions', { messages, tools: [{ type, function: rest }] });
  const [one, other] = server.engine.requests;
  t.strictSame(one?.prompt, other?.prompt, 'the prompt of the chat');
  t.strictSame(one?.grammar, other?.grammar);
});

void t.test('tool choices, formats, log-probabilities and other fields reach the engine', async (t) => {
  const server = await build(t, says('x'));
  const ask = async (fields: object) => {
    await server.post(PATH, { input, ...fields });
    return server.engine.requests.at(-1);
  };
  const time = { type: 'function', name: 'get_time' };
  const tools = [weather, time];
  const named = { type: 'function', name: 'get_time' };
  const functionsOf = async (fields: object): Promise<unknown> => {
    const grammar = (await ask({ tools, ...fields }))?.grammar;
    return grammar?.kind === 'calls' ? [...grammar.functions.map(({ name }) => name), grammar.isOptional] : grammar;
  };
  t.strictSame(await functionsOf({}), ['get_weather', 'get_time', true]);
  t.strictSame(await functionsOf({ tool_choice: 'required' }), ['get_weather', 'get_time', false]);
  t.strictSame(await functionsOf({ tool_choice: named }), ['get_time', false]);
  const allowed = { type: 'allowed_tools', mode: 'required', tools: [named] };
  t.strictSame(await functionsOf({ tool_choice: allowed }), ['get_time', false]);
  t.equal(await functionsOf({ tool_choice: 'none' }), null);
  t.equal(await functionsOf({ tools: [], tool_choice: 'auto', parallel_tool_calls: false }), null);
  const schema = { type: 'object', properties: { a: { type: 'string' } } };
  const format = { type: 'json_schema', name: 'x', schema, strict: true };
  t.match(await ask({ text: { format } }), { grammar: { kind: 'json', schema: JSON.stringify(schema) } });
  t.match(await ask({ text: { format: { type: 'json_object' } } }), { grammar: { kind: 'json' } });
  const all = { seed: 7, top_k: 5, max_output_tokens: 9, sortie: { exit_layer: 15 } };
  t.match(await ask(all), { maxTokens: 9, sampling: { seed: 7, topK: 5 }, depth: { minExit: 15, maxExit: 15 } });
  const include = ['message.output_text.logprobs'];
  const scored = await server.post(PATH, { input, include, top_logprobs: 2 });
  const { output } = (await scored.json()) as Whole;
  t.match(output[0]?.content?.[0]?.logprobs, [{ token: 'x', logprob: Number, top_logprobs: { length: 2 } }]);
});

void t.test('an error names the parameter as the client wrote it', async (t) => {
  const server = await build(t, ({ grammar }) =>
    grammar === null
      ? { tokens: [5] }
      : { tokens: [], reject: { reason: 'grammar', leastFeasibleMs: null, detail: 'it cannot', part: 0 } },
  );
  const call = { type: 'function_call', call_id: 'a', name: 'f', arguments: '{}' };
  const first = { role: 'user', content: 'x' };
  const image = { role: 'user', content: [{ type: 'input_image', image_url: 'x' }] };
  const wrong: [object, string, string?][] = [
    [{ input: undefined }, 'input'],
    [{ input: 5 }, 'input'],
    [{ input: [] }, 'input'],
    [{ input: [{ role: 'robot', content: 'x' }] }, 'input[0].role'],
    [{ input: [{ content: 'x' }] }, 'input[0].role'],
    [{ input: [first, { role: 'user' }] }, 'input[1].content'],
    [{ input: [first, image] }, 'input[1].content[0].type', 'unsupported_parameter'],
    [{ input: [{ type: 'item_reference', id: 'msg_1' }] }, 'input[0].type', 'unsupported_parameter'],
    [{ input: [{ type: 'web_search_call', id: 'x' }] }, 'input[0].type', 'unsupported_parameter'],
    [{ input: [{ ...call, call_id: undefined }] }, 'input[0].call_id'],
    [{ input: [{ ...call, name: undefined }] }, 'input[0].name'],
    [{ input: [first, call, { ...call, call_id: 'b', arguments: '[]' }] }, 'input[2].arguments'],
    [{ input: [first, call, { type: 'function_call_output', call_id: 'b', output: 'x' }] }, 'input[2].call_id'],
    [{ input: [first, call, { type: 'function_call_output', call_id: 'a' }] }, 'input[2].output'],
    [{ input: 'word '.repeat(3000) }, 'input', 'context_length_exceeded'],
    [{ max_output_tokens: 0 }, 'max_output_tokens'],
    [{ max_output_tokens: 1, min_tokens: 2 }, 'min_tokens'],
    [{ tools: [{ type: 'web_search' }] }, 'tools[0].type', 'unsupported_parameter'],
    [{ tools: [{ type: 'function' }] }, 'tools[0].name'],
    [{ tools: [weather, weather] }, 'tools[1].name'],
    [{ tools: [{ ...weather, parameters: { type: 'string' } }] }, 'tools[0].parameters'],
    [{ tools: [weather] }, 'tools[0].parameters'],
    [{ tools: [weather], tool_choice: { type: 'function', name: 'x' } }, 'tool_choice'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ text: { format: { type: 'json_schema' } } }, 'text.format'],
    [{ text: { format: { type: 'json_schema', schema: { maxItems: 1e5 } } } }, 'text.format'],
    [{ text: { format: { type: 'json_schema', schema: {} } } }, 'text.format'],
    [{ text: { verbosity: 'loud' } }, 'text.verbosity'],
    [{ reasoning: { effort: 'most' } }, 'reasoning.effort'],
    [{ previous_response_id: 'resp_1' }, 'previous_response_id', 'unsupported_parameter'],
    [{ conversation: 'conv_1' }, 'conversation', 'unsupported_parameter'],
    [{ background: true }, 'background', 'unsupported_parameter'],
    [{ truncation: 'last' }, 'truncation'],
    [{ truncation: 'auto', input: 'word '.repeat(3000) }, 'input', 'context_length_exceeded'],
    [{ max_tokens: 5 }, 'max_tokens', 'unsupported_parameter'],
    [{ temperature: 9 }, 'temperature'],
    [{ sortie: { exit: 5 } }, 'sortie.exit', 'unsupported_parameter'],
  ];
  for (const [fields, param, code = 'invalid_value'] of wrong) {
    await t.test(JSON.stringify(fields).slice(0, 90), async (t) => {
      const response = await server.post(PATH, { input, ...fields });
      const { error } = (await response.json()) as { error: { message: string; param: string; code: string } };
      t.match({ ...error, status: response.status }, { status: 400, param, code }, JSON.stringify(fields).slice(0, 90));
      if (code !== 'context_length_exceeded') t.ok(error.message.startsWith(param), error.message);
    });
  }
  const neutral = {
    ...{ previous_response_id: null, background: false, truncation: 'disabled', reasoning: { effort: null } },
    ...{ store: true, include: ['reasoning.encrypted_content'], service_tier: 'auto', conversation: null },
  };
  const served = await server.post(PATH, { input, ...neutral });
  t.equal(served.status, 200);
  t.equal(served.headers.get('x-sortie-warning'), null);
});

void t.test('settings without effect on this model are served, and a header names them', async (t) => {
  const server = await build(t, says('It rains.'));
  const effort = 'reasoning.effort is ignored: this model has no thoughts.';
  const verbosity = 'text.verbosity is ignored: this model has no such setting.';
  const truncation = 'truncation is ignored: input beyond the context is rejected.';
  const all = { reasoning: { effort: 'low' }, text: { verbosity: 'high' }, truncation: 'auto', storee: true };
  const settings: [object, string | null][] = [
    [{ reasoning: { effort: 'high', summary: 'auto' } }, effort],
    [{ reasoning: { effort: 'none' }, text: { verbosity: 'medium' }, truncation: 'disabled' }, null],
    [{ text: { verbosity: 'low' } }, verbosity],
    [{ truncation: 'auto' }, truncation],
    [all, `storee is ignored; did you mean store? ${effort} ${verbosity} ${truncation}`],
  ];
  for (const [fields, warning] of settings) {
    const whole = await server.post(PATH, { input, ...fields });
    t.equal(whole.headers.get('x-sortie-warning'), warning);
    t.match(await whole.json(), { status: 'completed', text: { verbosity: 'medium' }, truncation: 'disabled' });
    const stream = await server.post(PATH, { input, ...fields, stream: true });
    t.equal(stream.headers.get('x-sortie-warning'), warning);
    t.match(await stream.text(), /response\.completed/);
  }
  const answer = await server.post(PATH, { input, reasoning: { effort: 'high' } });
  t.match(await answer.json(), { reasoning: { effort: null, summary: null } });
  const prompts = server.engine.requests.map(({ prompt }) => prompt.join());
  t.equal(new Set(prompts).size, 1, 'the prompt has none of them');
});

void t.test('a failure after the first token is an error event and a failed response', async (t) => {
  const server = await build(t, says('one two three', { loseAfter: 2 }));
  const last: string[] = [];
  const events = namedEvents(await (await server.post(PATH, { input, stream: true })).text(), last);
  const [error, failed] = events.slice(-2);
  const code = 'engine_lost';
  t.match(error, { name: 'error', data: { type: 'error', code, message: String, error: { code, message: String } } });
  const response = { status: 'failed', error: { code, message: String }, output: [{ status: 'incomplete' }] };
  t.match(failed, { name: 'response.failed', data: { response } });
  t.equal(failed?.data.sequence_number, events.length - 1);
  t.strictSame(last, [], 'no [DONE]');
});

void t.test('a rejection is a plain error in OpenAI form, streamed or not', async (t) => {
  const server = await build(t, () => ({ tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } }));
  for (const stream of [false, true]) {
    const response = await server.post(PATH, { input, stream });
    t.equal(response.status, 429);
    t.equal(response.headers.get('retry-after'), '1');
    t.match(await response.json(), { error: { code: 'queue_full', type: 'rate_limit_error', param: null } });
  }
});

void t.test('input_tokens counts the prompt of a response with the same fields, whatever its length', async (t) => {
  const server = await build(t);
  const count = async (body: object): Promise<unknown> => (await server.post(`${PATH}/input_tokens`, body)).json();
  const items = [
    { role: 'user', content: 'Weather?' },
    { type: 'function_call', call_id: 'a', name: 'get_weather', arguments: '{"city":"Paris"}' },
    { type: 'function_call_output', call_id: 'a', output: 'sunny' },
  ];
  const time = { type: 'function', name: 'get_time' };
  const allowed = { type: 'allowed_tools', tools: [time] };
  for (const body of [
    { input },
    { input, instructions: 'Be brief.', reasoning: { effort: 'low' }, truncation: 'auto', model: 'fake' },
    { input: items, tools: [weather, time] },
    { input: items, tools: [weather, time], tool_choice: allowed, parallel_tool_calls: false },
    { input: items, tools: [weather], tool_choice: 'none', text: { verbosity: 'low' } },
  ]) {
    t.equal((await server.post(PATH, body)).status, 200);
    const input_tokens = server.engine.requests.at(-1)?.prompt.length;
    t.strictSame(await count(body), { object: 'response.input_tokens', input_tokens });
  }
  const long = (await count({ input: 'word '.repeat(9000) })) as { input_tokens: number };
  t.ok(long.input_tokens > 9000, `${long.input_tokens}`);
  t.match(await count({ instructions: 'Be brief.' }), { input_tokens: Number });
  const stored = { param: 'previous_response_id', code: 'unsupported_parameter' };
  const wrong: [object, object][] = [
    [{}, { param: 'input', message: 'input is required.' }],
    [{ input: [{ role: 'user' }] }, { param: 'input[0].content' }],
    [{ input, previous_response_id: 'resp_1' }, stored],
    [{ input, tool_choice: 'required' }, { param: 'tool_choice' }],
    [{ input, tools: [weather, weather] }, { param: 'tools[1].name' }],
    [{ input, model: 'gpt-9' }, { code: 'model_not_found' }],
  ];
  for (const [body, error] of wrong) t.match(await count(body), { error }, JSON.stringify(body));
});

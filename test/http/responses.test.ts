/** POST /v1/responses over HTTP with a scripted engine: items, events. */
import t from 'tap';
import { build, chatOfCalls, spelt } from '../fakes/calls.js';
import { says, streamed, type TestServer } from '../fakes/server.js';

const PATH = '/v1/responses';
const input = 'Weather in Paris?';
const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = { type: 'function', name: 'get_weather', description: 'Weather of a city.', parameters };

interface Whole {
  output: { id: string; content?: { text: string }[]; arguments?: string }[];
}
const whole = async (server: TestServer, body: object) => (await server.ask(PATH, body)).body as unknown as Whole;

const eventsOf = async (server: TestServer, body: object) =>
  (await streamed(server, PATH, body)).map(({ name, data }) => ({ name: name.replace('response.', ''), data }));

void t.test('a whole response has the items, the usage, the settings used and the report', async (t) => {
  const server = await build(t, says('It rains.'));
  const metadata = { a: 'b' };
  const fields = { input, instructions: 'Be brief.', temperature: 0.5, metadata, store: true, user: 'ann' };
  const content = { type: 'output_text', text: 'It rains.', annotations: [], logprobs: [] };
  t.match((await server.ask(PATH, fields, { 'x-latency-budget-ms': '250' })).body, {
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
  t.match(server.prompt(), '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWeather in Paris?<|im_end|>');
});

void t.test('a stream has all events of a message, numbered, from created to completed', async (t) => {
  const server = await build(t, says('It rains.'));
  const events = await eventsOf(server, { input });
  const names = events.map(({ name }) => name);
  t.strictSame(names, [
    ...['created', 'in_progress', 'output_item.added', 'content_part.added'],
    ...['output_text.delta', 'output_text.delta', 'output_text.delta'],
    ...['output_text.done', 'content_part.done', 'output_item.done', 'completed'],
  ]);
  t.ok(events.every(({ data }, index) => data.sequence_number === index));
  t.ok(events.every(({ name, data }) => String(data.type).endsWith(name)));
  t.match(events[0]?.data, { response: { status: 'in_progress', output: [], usage: null } });
  const final = events.at(-1)?.data.response as Whole;
  t.match(final, { status: 'completed', output: [{ content: [{ text: 'It rains.' }] }], sortie: { exit_layers: {} } });
  const deltas = events.flatMap(({ name, data }) => (name.endsWith('text.delta') ? [data.delta] : []));
  t.equal(deltas.join(''), 'It rains.');
  const bare = ({ output }: Whole) => output.map((item) => ({ ...item, id: '' }));
  t.strictSame(bare(final), bare(await whole(server, { input })), 'the whole response has the same items');
});

void t.test('an answer that max_output_tokens cut is incomplete, and an empty one has an empty text', async (t) => {
  const server = await build(t, says('It rains in Paris.'));
  const fields = { input, max_output_tokens: 2 };
  const details = { incomplete_details: { reason: 'max_output_tokens' }, completed_at: null };
  const response = {
    ...{ status: 'incomplete', ...details, max_output_tokens: 2 },
    output: [{ status: 'incomplete', content: [{ text: 'It rains' }] }],
  };
  t.match(await whole(server, fields), response);
  t.match((await eventsOf(server, fields)).at(-1), { name: 'incomplete', data: { response } });
  server.engine.script = says('');
  const output = [{ status: 'completed', content: [{ text: '' }] }];
  t.match(await whole(server, { input }), { output });
  const events = await eventsOf(server, { input });
  t.match(events.at(-1)?.data, { response: { output } });
  t.notOk(events.some(({ name }) => name === 'output_text.delta'));
});

void t.test('each call is an item of its own, and its arguments come in pieces', async (t) => {
  const calls = `${spelt('get_weather', '{"city": "Paris"}')}\n${spelt('get_weather', '{"city": "Oslo"}')}`;
  const server = await build(t, says(calls));
  const fields = { input, tools: [weather], max_output_tokens: 200 };
  const { output, ...rest } = await whole(server, fields);
  t.match(rest, { status: 'completed' });
  t.match(output, [
    { type: 'function_call', id: /^fc_/, call_id: /^call_/, name: 'get_weather', arguments: '{"city": "Paris"}' },
    { type: 'function_call', arguments: '{"city": "Oslo"}', status: 'completed' },
  ]);
  t.not(output[0]?.id, output[1]?.id);
  const events = await eventsOf(server, fields);
  for (const index of [0, 1]) {
    const own = events.filter(({ data }) => data.output_index === index);
    const names = own.map(({ name }) => name);
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
  await server.ask(PATH, { instructions: 'Be brief.', input: items, tools: [weather] });
  const { type, ...rest } = weather;
  const chat = { messages: chatOfCalls(['sunny', 'snow']), tools: [{ type, function: rest }] };
  await server.ask('/v1/chat/completions', chat);
  const [one, other] = server.engine.requests;
  t.strictSame([one?.prompt, one?.grammar], [other?.prompt, other?.grammar], 'the request of the chat');
});

void t.test('settings without effect on this model are served', async (t) => {
  const server = await build(t, says('It rains.'));
  for (const fields of [
    { reasoning: { effort: 'high', summary: 'auto' } },
    { previous_response_id: null, background: false, reasoning: { effort: null }, conversation: null },
    { store: true, include: ['reasoning.encrypted_content'], service_tier: 'auto', top_logprobs: 0 },
    { text: { verbosity: 'low' }, truncation: 'auto', storee: true },
  ]) {
    const { body } = await server.ask(PATH, { input, ...fields });
    t.match(body, { status: 'completed', text: { verbosity: 'medium' }, truncation: 'disabled' });
    t.match((await server.ask(PATH, { input, ...fields, stream: true })).text, /response\.completed/);
  }
  const prompts = server.engine.requests.map(({ prompt }) => prompt.join());
  t.equal(new Set(prompts).size, 1, 'the prompt has none of them');
});

void t.test('input_tokens counts the prompt of a response with the same fields, whatever its length', async (t) => {
  const server = await build(t);
  const count = async (body: object) => (await server.ask(`${PATH}/input_tokens`, body)).body as unknown;
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
    t.equal((await server.ask(PATH, body)).status, 200);
    t.strictSame(await count(body), { object: 'response.input_tokens', input_tokens: server.last().prompt.length });
  }
  const long = (await count({ input: 'word '.repeat(9000) })) as { input_tokens: number };
  t.ok(long.input_tokens > 9000, `${long.input_tokens}`);
  t.match(await count({ instructions: 'Be brief.' }), { input_tokens: Number });
  t.match(await count({ input, model: 'gpt-9' }), { error: { code: 'model_not_found' } });
});

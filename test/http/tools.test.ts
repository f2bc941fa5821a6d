/** Tools over HTTP: the answer that follows their grammar, and the prompt that describes them. */
import t from 'tap';
import { build, spelt } from '../fakes/calls.js';
import { says, tokenizer } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Weather in Paris?' }];
const parameters = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};
const weather = { type: 'function', function: { name: 'get_weather', description: 'Weather of a city.', parameters } };
const tools = [weather, { type: 'function', function: { name: 'get_time' } }];
const CITY = '{"city": "São Paulo {\\"x\\": 1}"}';
const PATH = '/v1/chat/completions';
const asked = { messages, tools, max_tokens: 100 };

void t.test('a call is a message without content, with a finish reason of its own', async (t) => {
  const server = await build(t, says(spelt('get_weather', CITY)));
  const { text, body } = await server.ask(PATH, asked);
  t.match(text, /"content":null/, 'null stays null on the wire');
  t.match(body.choices[0], { finish_reason: 'tool_calls', logprobs: null, message: { tool_calls: { length: 1 } } });
  const called = { name: 'get_weather', arguments: CITY };
  t.match(body.choices[0]?.message.tool_calls?.[0], { id: /^call_\w{20,}$/, type: 'function', function: called });
});

void t.test('streamed: role, id and name first, then pieces of arguments, an empty delta at the end', async (t) => {
  const server = await build(t, says(`${spelt('get_weather', CITY)}\n${spelt('get_time', '{}')}`));
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

void t.test('an answer without a call is text, token by token, and ends as text does', async (t) => {
  for (const text of ['<b>It is sunny.</b>', 'Sunny.', '<tool', '']) {
    const server = await build(t, says(text));
    const message = { content: text, tool_calls: undefined };
    t.match((await server.ask(PATH, asked)).body.choices[0], { message, finish_reason: 'stop' });
    const chunks = await server.chunks(PATH, asked);
    t.equal(chunks.map(({ choices: [choice] }) => choice?.delta.content ?? '').join(''), text);
    t.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'stop');
  }
});

void t.test('stop strings and log-probabilities apply to text only, not to a call', async (t) => {
  const server = await build(t, says(spelt('get_weather', CITY)));
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

void t.test('a call cut by max_tokens ends with length and keeps its partial arguments', async (t) => {
  const ids = tokenizer.encode(spelt('get_weather', CITY), false);
  const server = await build(t, says(spelt('get_weather', CITY)));
  for (let most = 1; most < ids.length; most += 3) {
    const fields = { messages, tools, tool_choice: 'required', max_tokens: most };
    const [choice] = (await server.ask(PATH, fields)).body.choices;
    t.equal(choice?.finish_reason, 'length');
    const text = choice?.message.tool_calls?.[0]?.function.arguments ?? '';
    t.ok(CITY.startsWith(text), text);
    const chunks = await server.chunks(PATH, fields);
    const streamed = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    t.equal(streamed.map((call) => call.function.arguments).join(''), text);
    t.equal(chunks[0]?.choices[0]?.delta.role, 'assistant');
  }
});

void t.test('each of n choices has its own calls', async (t) => {
  const server = await build(t, says(spelt('get_time', '{}')));
  const { choices } = (await server.ask(PATH, { messages, tools, n: 3 })).body;
  t.equal(new Set(choices.map(({ message }) => message.tool_calls?.[0]?.id)).size, 3);
  const chunks = await server.chunks(PATH, { messages, tools, n: 2 });
  for (const index of [0, 1]) {
    const own = chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index));
    t.equal(own[0]?.delta.tool_calls?.[0]?.function.name, 'get_time');
    const reasons = own.flatMap(({ finish_reason }) => finish_reason ?? []);
    t.strictSame(reasons, ['tool_calls']);
  }
});

void t.test('beside a schema, an answer is calls or JSON text, whole and streamed', async (t) => {
  const response_format = { type: 'json_schema', json_schema: { name: 'n', schema: parameters } };
  const server = await build(t, says(spelt('get_weather', CITY)));
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
  const server = await build(t);
  await server.ask(PATH, { messages, tools });
  t.match(server.prompt(), /^<\|im_start\|>system\n# Tools\n.*"name": "get_weather".*"name": "get_time"/s);
  await server.ask(PATH, { messages, tools, tool_choice: 'none' });
  t.notMatch(server.prompt(), /Tools|get_weather/, 'the prompt does not describe tools that may not be called');
  const after = (text: string) => ({
    role: 'assistant',
    content: null,
    tool_calls: [{ id: 'a', type: 'function', function: { name: 'get_weather', arguments: text } }],
  });
  const result = { role: 'tool', tool_call_id: 'a', content: [{ type: 'text', text: 'sunny' }] };
  const history = [...messages, after('{"city":"Paris"}'), result];
  await server.ask(PATH, { messages: history, tools });
  const call = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
  t.match(server.prompt(), `<|im_start|>assistant\n<tool_call>\n${call}\n</tool_call>`);
  t.match(server.prompt(), '<|im_start|>user\n<tool_response>\nsunny\n</tool_response>');
  t.match((await server.ask('/tokenize', { messages: history, tools })).body, { tokens: server.last().prompt });
  const prompts = new Set<string>();
  for (const text of ['', ' \n', '{}']) {
    await server.ask(PATH, { messages: [...messages, after(text)], tools });
    prompts.add(server.prompt());
  }
  t.equal(prompts.size, 1, 'a call without arguments may come back with an empty text');
});

void t.test('a lost grammar worker has its detail in the log alone', async (t) => {
  const detail = 'ENOENT: /srv/secret/tokenizer.json';
  const reject = { reason: 'grammars_lost', leastFeasibleMs: null, detail } as const;
  const server = await build(t, () => ({ tokens: [], reject }), { keepsLog: true });
  const { status, text } = await server.ask(PATH, { messages, tools });
  t.equal(status, 502);
  t.notMatch(text, /secret|ENOENT/);
  t.match(await server.logged(), [{ fault: detail }]);
});

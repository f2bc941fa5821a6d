/** Tools over HTTP: the request to the engine, and the answer that follows its grammar. */
import t from 'tap';
import type { CallsGrammar } from '../../src/protocol/index.js';
import { build, spelt } from '../fakes/calls.js';
import { events, says, tokenizer } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Weather in Paris?' }];
const parameters = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
};
const weather = { type: 'function', function: { name: 'get_weather', description: 'Weather of a city.', parameters } };
const time = { type: 'function', function: { name: 'get_time' } };
const tools = [weather, time];
const CITY = '{"city": "São Paulo {\\"x\\": 1}"}';
const PATH = '/v1/chat/completions';

interface Call {
  index: number;
  id?: string;
  type?: string;
  function: { name?: string; arguments: string };
}
interface Chunk {
  choices: {
    index: number;
    delta: { role?: string; content?: string | null; tool_calls?: Call[] };
    finish_reason: string | null;
    logprobs: unknown;
  }[];
}
interface Whole {
  choices: { message: { content: string | null; tool_calls?: Call[] }; finish_reason: string; logprobs: unknown }[];
}
interface ErrorAnswer {
  error: { message: string; param: string | null; code: string };
}

const chunksOf = async (response: Response): Promise<Chunk[]> =>
  (await events(response)).slice(0, -1).map((text) => JSON.parse(text) as Chunk);

void t.test('a call is a message without content, with a finish reason of its own', async (t) => {
  const server = await build(t, says(spelt('get_weather', CITY)));
  const response = await server.post(PATH, { messages, tools, max_tokens: 100 });
  const raw = await response.text();
  t.match(raw, /"content":null/, 'null stays null on the wire');
  const [choice] = (JSON.parse(raw) as Whole).choices;
  t.match(choice, { finish_reason: 'tool_calls', logprobs: null });
  t.equal(choice?.message.tool_calls?.length, 1);
  t.match(choice?.message.tool_calls?.[0], {
    id: /^call_\w{20,}$/,
    type: 'function',
    function: { name: 'get_weather', arguments: CITY },
  });
});

void t.test('streamed: role, id and name first, then pieces of arguments, an empty delta at the end', async (t) => {
  const server = await build(t, says(`${spelt('get_weather', CITY)}\n${spelt('get_time', '{}')}`));
  const chunks = await chunksOf(await server.post(PATH, { messages, tools, stream: true, max_tokens: 100 }));
  const choices = chunks.flatMap(({ choices }) => choices);
  const [first] = choices;
  t.strictSame(Object.keys(first?.delta ?? {}), ['role', 'content', 'tool_calls']);
  t.match(first?.delta, {
    role: 'assistant',
    content: null,
    tool_calls: [{ index: 0, id: /^call_/, type: 'function', function: { name: 'get_weather', arguments: '' } }],
  });
  t.ok(choices.slice(1).every(({ delta }) => delta.role === undefined && delta.content === undefined));
  const calls = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
  const begins = calls.filter(({ id }) => id !== undefined);
  t.strictSame(
    begins.map((call) => [call.index, call.function.name]),
    [
      [0, 'get_weather'],
      [1, 'get_time'],
    ],
  );
  t.not(begins[0]?.id, begins[1]?.id);
  const argumentsOf = (index: number): string =>
    calls.flatMap((call) => (call.index === index ? call.function.arguments : [])).join('');
  t.equal(argumentsOf(0), CITY);
  t.equal(argumentsOf(1), '{}');
  t.ok(calls.filter(({ index }) => index === 0).length > 4, 'token by token');
  t.ok(calls.every(({ id, function: { name } }) => (id === undefined) === (name === undefined)));
  t.match(choices.at(-1), { delta: {}, finish_reason: 'tool_calls', logprobs: null });
  t.strictSame(choices.at(-1)?.delta, {});
  t.equal(choices.filter(({ finish_reason }) => finish_reason !== null).length, 1);
});

void t.test('an answer without a call is text, token by token, and ends as text does', async (t) => {
  for (const text of ['<b>It is sunny.</b>', 'Sunny.', '<tool', '']) {
    const server = await build(t, says(text));
    const whole = (await (await server.post(PATH, { messages, tools })).json()) as Whole;
    t.match(whole.choices[0], { message: { content: text }, finish_reason: 'stop' });
    t.equal(whole.choices[0]?.message.tool_calls, undefined);
    const chunks = await chunksOf(await server.post(PATH, { messages, tools, stream: true }));
    t.equal(chunks.map(({ choices: [choice] }) => choice?.delta.content ?? '').join(''), text);
    t.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'stop');
  }
});

void t.test('stop strings and log-probabilities apply to text only, not to a call', async (t) => {
  const asks = { messages, tools, stop: ['Paulo'], logprobs: true, max_tokens: 100 };
  const call = (await (await (await build(t, says(spelt('get_weather', CITY)))).post(PATH, asks)).json()) as Whole;
  t.match(call.choices[0], { finish_reason: 'tool_calls', logprobs: null });
  t.equal(call.choices[0]?.message.tool_calls?.[0]?.function.arguments, CITY);
  const text = (await (await (await build(t, says('In São Paulo it rains.'))).post(PATH, asks)).json()) as Whole;
  t.match(text.choices[0], { message: { content: 'In São ' }, finish_reason: 'stop', logprobs: { content: Array } });
});

void t.test('a call cut by max_tokens ends with length and keeps its partial arguments', async (t) => {
  const ids = tokenizer.encode(spelt('get_weather', CITY), false);
  const server = await build(t, says(spelt('get_weather', CITY)));
  for (let most = 1; most < ids.length; most += 3) {
    const body = { messages, tools, tool_choice: 'required', max_tokens: most };
    const { choices } = (await (await server.post(PATH, body)).json()) as Whole;
    t.equal(choices[0]?.finish_reason, 'length');
    const text = choices[0]?.message.tool_calls?.[0]?.function.arguments ?? '';
    t.ok(CITY.startsWith(text), text);
    const chunks = await chunksOf(await server.post(PATH, { ...body, stream: true }));
    const streamed = chunks.flatMap(({ choices: [choice] }) => choice?.delta.tool_calls ?? []);
    t.equal(streamed.map((call) => call.function.arguments).join(''), text);
    t.equal(chunks[0]?.choices[0]?.delta.role, 'assistant');
  }
});

void t.test('each of n choices has its own calls', async (t) => {
  const server = await build(t, says(spelt('get_time', '{}')));
  const whole = (await (await server.post(PATH, { messages, tools, n: 3 })).json()) as Whole;
  const ids = whole.choices.map(({ message }) => message.tool_calls?.[0]?.id);
  t.equal(new Set(ids).size, 3);
  const chunks = await chunksOf(await server.post(PATH, { messages, tools, n: 2, stream: true }));
  for (const index of [0, 1]) {
    const own = chunks.flatMap(({ choices }) => choices.filter((choice) => choice.index === index));
    t.equal(own[0]?.delta.tool_calls?.[0]?.function.name, 'get_time');
    t.strictSame(
      own.flatMap(({ finish_reason }) => finish_reason ?? []),
      ['tool_calls'],
    );
  }
});

void t.test('tool_choice and parallel_tool_calls become the grammar, and the prompt describes the tools', async (t) => {
  const server = await build(t, says('x'));
  const ask = async (fields: object): Promise<CallsGrammar | null> => {
    // The fake engine's answer breaks a forced grammar; the test only looks at the request.
    await server.post(PATH, { messages, tools, ...fields });
    return (server.engine.requests.at(-1)?.grammar ?? null) as CallsGrammar | null;
  };
  const promptText = (): string => tokenizer.decode(server.engine.requests.at(-1)?.prompt ?? [], { special: true });
  const both = [
    { name: 'get_weather', schema: JSON.stringify(parameters) },
    { name: 'get_time', schema: '{"type":"object","properties":{},"additionalProperties":false}' },
  ];
  t.strictSame(await ask({}), { kind: 'calls', functions: both, most: 16, isOptional: true });
  t.match(promptText(), /^<\|im_start\|>system\n# Tools\n.*"name": "get_weather".*"name": "get_time"/s);
  t.strictSame(await ask({ tool_choice: 'auto', parallel_tool_calls: false }), {
    kind: 'calls',
    functions: both,
    most: 1,
    isOptional: true,
  });
  t.match(await ask({ tool_choice: 'required' }), { functions: both, most: 16, isOptional: false });
  const named = await ask({ tool_choice: { type: 'function', function: { name: 'get_time' } } });
  t.strictSame(named, { kind: 'calls', functions: both.slice(1), most: 1, isOptional: false });
  t.equal(await ask({ tool_choice: 'none' }), null);
  t.notMatch(promptText(), /Tools|get_weather/, 'the prompt does not describe tools that may not be called');
  const format = { type: 'json_object' };
  t.match(await ask({ tool_choice: 'none', response_format: format }), { kind: 'json' });
  const answer = '{"type":"object"}';
  t.strictSame(await ask({ response_format: format, parallel_tool_calls: false }), {
    ...{ kind: 'calls', functions: both, most: 1, isOptional: false, answer },
  });
  t.match(await ask({ structured_outputs: { json: format } }), { answer: JSON.stringify(format) });
  const forced = await ask({ tool_choice: 'required', response_format: format });
  t.strictSame(forced, { kind: 'calls', functions: both, most: 16, isOptional: false }, 'the answer is a call');
  t.equal(await ask({ tools: null, tool_choice: null, parallel_tool_calls: null }), null);
  t.equal(await ask({ tools: [] }), null);
});

void t.test('beside a schema, an answer is calls or JSON text, whole and streamed', async (t) => {
  const response_format = { type: 'json_schema', json_schema: { name: 'n', schema: parameters } };
  const ask = { messages, tools, response_format, max_tokens: 100 };
  const calling = await build(t, says(spelt('get_weather', CITY)));
  const called = (await (await calling.post(PATH, ask)).json()) as Whole;
  t.match(called.choices[0], { finish_reason: 'tool_calls', message: { content: null } });
  t.equal(called.choices[0]?.message.tool_calls?.[0]?.function.arguments, CITY);
  const saying = await build(t, says(CITY));
  const said = (await (await saying.post(PATH, { ...ask, logprobs: true })).json()) as Whole;
  t.match(said.choices[0], { finish_reason: 'stop', message: { content: CITY }, logprobs: { content: Array } });
  t.equal(said.choices[0]?.message.tool_calls, undefined);
  const chunks = await chunksOf(await saying.post(PATH, { ...ask, stream: true }));
  const choices = chunks.flatMap((chunk) => chunk.choices);
  t.equal(choices.map(({ delta }) => delta.content ?? '').join(''), CITY);
  t.ok(choices.length > 3, 'the text streams from its first token on');
  const reject = { reason: 'grammar', leastFeasibleMs: null, detail: 'Invalid type: banana', part: 2 } as const;
  const rejecting = await build(t, () => ({ tokens: [], reject }));
  t.match(await (await rejecting.post(PATH, ask)).json(), { error: { param: 'response_format', message: /banana/ } });
});

void t.test('a history of calls and results is part of the prompt, also for /tokenize', async (t) => {
  const server = await build(t);
  const history = [
    ...messages,
    {
      role: 'assistant',
      content: null,
      tool_calls: [{ id: 'a', type: 'function', function: { name: 'get_weather', arguments: '{"city":"Paris"}' } }],
    },
    { role: 'tool', tool_call_id: 'a', content: [{ type: 'text', text: 'sunny' }] },
  ];
  t.equal((await server.post(PATH, { messages: history, tools })).status, 200);
  const ids = server.engine.requests[0]?.prompt ?? [];
  const text = tokenizer.decode(ids, { special: true });
  t.match(
    text,
    '<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
  );
  t.match(text, '<|im_start|>user\n<tool_response>\nsunny\n</tool_response>');
  const counted = (await (await server.post('/tokenize', { messages: history, tools })).json()) as { tokens: number[] };
  t.strictSame(counted.tokens, ids);
});

void t.test('a call without arguments may come back with an empty text', async (t) => {
  const server = await build(t);
  for (const text of ['', ' \n', '{}']) {
    const call = { id: 'a', type: 'function', function: { name: 'get_weather', arguments: text } };
    const history = [...messages, { role: 'assistant', content: null, tool_calls: [call] }];
    t.equal((await server.post(PATH, { messages: history, tools })).status, 200);
  }
  const [first, ...others] = server.engine.requests.map(({ prompt }) => prompt);
  for (const other of others) t.strictSame(other, first);
});

void t.test('an unsupported use of tools is a 400 that names the parameter', async (t) => {
  const server = await build(t);
  const named = (name: string) => ({ type: 'function', function: { name } });
  const withParameters = (parameters: unknown) => ({ type: 'function', function: { name: 'f', parameters } });
  const assistant = (call: unknown) => ({ role: 'assistant', tool_calls: [call] });
  const call = { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } };
  const wrong: [object, string][] = [
    [{ tools: undefined, tool_choice: 'auto' }, 'tool_choice'],
    [{ tools: [], tool_choice: 'required' }, 'tool_choice'],
    [{ tools: undefined, parallel_tool_calls: false }, 'parallel_tool_calls'],
    [{ tools: [{}] }, 'tools[0].type'],
    [{ tools: [{ type: 'custom', custom: { name: 'f' } }] }, 'tools[0].type'],
    [{ tools: [{ ...time, type: 'custom' }] }, 'tools[0].type'],
    [{ tools: [{ type: 'function' }] }, 'tools[0].function'],
    [{ tools: [named('not a name')] }, 'tools[0].function.name'],
    [{ tools: [weather, weather] }, 'tools[1].function.name'],
    [{ tools: Array.from({ length: 129 }, (_, i) => named(`f${i}`)) }, 'tools'],
    [{ tools: [withParameters({ type: 'string' })] }, 'tools[0].function.parameters'],
    [{ tools: [withParameters(5)] }, 'tools[0].function.parameters'],
    [{ tools: [time, withParameters({ enum: ['x'.repeat(40_000)] })] }, 'tools[1].function.parameters'],
    [{ tools: [withParameters({ properties: { a: { maxItems: 1e5 } } })] }, 'tools[0].function.parameters'],
    [
      {
        tools: Array.from({ length: 5 }, (_, i) => ({
          ...named(`f${i}`),
          ...{ function: { name: `f${i}`, parameters: { description: 'x'.repeat(30_000) } } },
        })),
      },
      'tools',
    ],
    [{ tool_choice: 'maybe' }, 'tool_choice'],
    [{ tool_choice: named('get_stock') }, 'tool_choice'],
    [{ tool_choice: 'any', parallel_tool_calls: 'yes' }, 'tool_choice'],
    [{ parallel_tool_calls: 'yes' }, 'parallel_tool_calls'],
    [{ structured_outputs: { regex: 'a' } }, 'structured_outputs.regex'],
    [{ tool_choice: 'required', structured_outputs: { choice: ['a'] } }, 'structured_outputs.choice'],
    [{ stop_token_ids: [5] }, 'stop_token_ids'],
    [{ tool_choice: 'required', stop: 'x' }, 'stop'],
    [{ tool_choice: named('get_time'), logprobs: true }, 'logprobs'],
    [{ functions: [{ name: 'f' }] }, 'functions'],
    [{ function_call: { name: 'f' } }, 'function_call'],
    [{ messages: [{ role: 'tool', tool_call_id: 'a', content: 'x' }] }, 'messages[0].tool_call_id'],
    [
      { messages: [...messages, assistant(call), { role: 'tool', tool_call_id: 'b', content: 'x' }] },
      'messages[2].tool_call_id',
    ],
    [{ messages: [...messages, assistant(call), { role: 'tool', content: 'x' }] }, 'messages[2].tool_call_id'],
    [{ messages: [...messages, assistant(call), { role: 'tool', tool_call_id: 'a' }] }, 'messages[2].content'],
    [
      { messages: [...messages, assistant(call), ...messages, { role: 'tool', tool_call_id: 'a', content: 'x' }] },
      'messages[3].tool_call_id',
    ],
    [{ messages: [{ role: 'user', content: 'x', tool_calls: [call] }] }, 'messages[0].tool_calls'],
    [{ messages: [{ role: 'user', content: 'x', tool_call_id: 'a' }] }, 'messages[0].tool_call_id'],
    [{ messages: [...messages, { role: 'assistant' }] }, 'messages[1].content'],
    [{ messages: [...messages, { role: 'assistant', content: 'x', function_call: {} }] }, 'messages[1].function_call'],
    [
      { messages: [...messages, assistant({ ...call, function: { name: 'f', arguments: '{"a":' } })] },
      'messages[1].tool_calls[0].function.arguments',
    ],
    [
      { messages: [...messages, assistant({ ...call, function: { name: 'f', arguments: '[]' } })] },
      'messages[1].tool_calls[0].function.arguments',
    ],
    [
      {
        messages: [
          ...messages,
          { role: 'assistant', tool_calls: [call, { ...call, id: 'b', function: { name: 'f', arguments: 'x' } }] },
        ],
      },
      'messages[1].tool_calls[1].function.arguments',
    ],
    [{ messages: [...messages, assistant({})] }, 'messages[1].tool_calls[0].id'],
  ];
  for (const [fields, param] of wrong) {
    await t.test(param, async (t) => {
      const response = await server.post(PATH, { messages, tools, ...fields });
      const { error } = (await response.json()) as ErrorAnswer;
      t.equal(response.status, 400, param);
      t.equal(error.param, param, error.message);
    });
  }
  const nameless = { messages: [...messages, assistant(call), { role: 'tool', content: 'x' }] };
  const { error } = (await (await server.post(PATH, nameless)).json()) as ErrorAnswer;
  t.equal(error.message, 'messages[2].tool_call_id is required.', 'the message says required');
  const completion = await server.post('/v1/completions', { prompt: 'x', tools });
  t.match(await completion.json(), { error: { code: 'unsupported_parameter', param: 'tools' } });
  const alone = await server.post('/tokenize', { prompt: 'x', tools });
  t.match(await alone.json(), { error: { code: 'invalid_value', param: 'tools' } });
  t.equal(server.engine.requests.length, 0, 'nothing reached the engine');
});

void t.test('an unenforceable schema is named; a lost grammar worker is a 502 without its reason', async (t) => {
  const reject = { reason: 'grammar', leastFeasibleMs: null, detail: 'Invalid type: banana' } as const;
  const cases: [object, number | null, string][] = [
    [{}, 1, 'tools[1].function.parameters'],
    [{}, null, 'tools'],
    [{ tool_choice: { type: 'function', function: { name: 'get_time' } } }, 0, 'tools[1].function.parameters'],
  ];
  for (const [fields, part, param] of cases) {
    const server = await build(t, () => ({ tokens: [], reject: { ...reject, part } }));
    const response = await server.post(PATH, { messages, tools, ...fields });
    t.equal(response.status, 400);
    t.match(await response.json(), { error: { param, message: /banana/ } });
  }
  const detail = 'ENOENT: /srv/secret/tokenizer.json';
  const lines: string[] = [];
  const lost = { tokens: [], reject: { reason: 'grammars_lost', leastFeasibleMs: null, detail } } as const;
  const server = await build(t, () => lost, { log: (line) => lines.push(line) });
  const response = await server.post(PATH, { messages, tools });
  t.equal(response.status, 502);
  t.ok(response.headers.has('retry-after-ms'));
  t.notMatch(await response.text(), /secret|ENOENT/);
  t.ok(
    lines.some((line) => line.includes(detail)),
    'the log has the detail',
  );
});

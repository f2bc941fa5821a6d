/**
 * A table of wrong values by endpoint. An error names the field as its client wrote it, and has this message, or this
 * code where it is another than `invalid_value`.
 */
import t, { type Test } from 'tap';
import { biased, BODIES, build } from '../fakes/calls.js';
import { asText, nested } from '../fakes/bodies.js';
import { says, tokenizer, withoutRow, type TestServer } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Hi' }];
const BASES = {
  ...BODIES,
  '/v1/responses/input_tokens': {},
  '/tokenize': {},
  '/detokenize': {},
} as const;
type Path = keyof typeof BASES;
type Row = readonly [fields: object, param: string | null, rule?: RegExp | string];

const NOT_HERE = 'unsupported_parameter';
const TOO_LONG = 'context_length_exceeded';
const tooLong = 'word '.repeat(3000);

/** A format with this schema, under a name. */
const formatOf = (schema: unknown) => ({
  response_format: { type: 'json_schema', json_schema: { name: 'x', schema } },
});
const form = (structured_outputs: unknown) => ({ structured_outputs });
/** A schema with so many levels. */
const levels = (count: number): object => (count === 1 ? {} : { items: levels(count - 1) });
const stops = Array.from({ length: 65 }, (_, index) => `never ${index}`);

const both: readonly Row[] = [
  [{ temperature: 3 }, 'temperature'],
  [{ top_p: 0 }, 'top_p'],
  [{ n: 0 }, 'n'],
  [{ n: 65 }, 'n'],
  ...['', ['a', ''], stops, 'x'.repeat(257), ['x'.repeat(257)]].map((stop): Row => [{ stop }, 'stop']),
  ...['\ud83e', ['ok', 'x\udd17'], '\udd17\ud83e'].map((stop): Row => [{ stop }, 'stop', /whole characters/]),
  [{ logit_bias: { '49152': 1 } }, 'logit_bias'],
  [{ logit_bias: { '1': 101 } }, 'logit_bias[1]'],
  [{ logit_bias: { x: 1 } }, 'logit_bias'],
  [{ logit_bias: biased(6145), n: 8 }, 'logit_bias'],
  [{ dry_multiplier: -1 }, 'dry_multiplier'],
  [{ dry_base: 2 }, 'dry_base', /needs dry_multiplier/],
  [{ dry_allowed_length: 3 }, 'dry_allowed_length', /needs dry_multiplier/],
  [{ stream_options: { include_usage: true } }, 'stream_options'],
  [{ min_tokens: 17, max_tokens: 16 }, 'min_tokens'],
  [{ max_tokens: 0 }, 'max_tokens'],
  [{ response_format: { type: 'xml' } }, 'response_format'],
  [{ response_format: { type: 'json_schema' } }, 'response_format'],
  [formatOf(5), 'response_format'],
  [{ response_format: { type: 'json_object', schema: 5 } }, 'response_format'],
  [{ response_format: { type: 'json_object', schema: { maxItems: 1e5 } } }, 'response_format', /maxItems/],
  [formatOf({ items: { maxItems: 1e5 } }), 'response_format', /maxItems/],
  [form({}), 'structured_outputs', /must have one of json, json_object, regex/],
  [form({ json_object: false }), 'structured_outputs', /must have one of/],
  [form({ regex: 'a', choice: ['b'] }), 'structured_outputs.choice', /combined with structured_outputs\.regex/],
  [
    { response_format: { type: 'json_object' }, structured_outputs: { regex: 'a' } },
    'structured_outputs.regex',
    /cannot be combined with response_format/,
  ],
  [form({ regex: '' }), 'structured_outputs.regex'],
  [form({ regex: 5 }), 'structured_outputs.regex'],
  [form({ regex: '\ud800' }), 'structured_outputs.regex', /surrogate/],
  [form({ choice: [] }), 'structured_outputs.choice'],
  [form({ choice: [''] }), 'structured_outputs.choice[0]'],
  [form({ choice: 'a' }), 'structured_outputs.choice', /array/],
  [form({ choice: Array.from({ length: 5000 }, (_, i) => `choice ${i}`) }), 'structured_outputs.choice', /in all/],
  [form({ grammar: 'x'.repeat(32_769) }), 'structured_outputs.grammar', /32768 characters, got 32769/],
  [form({ json: 5 }), 'structured_outputs.json', /a JSON schema, or its text/],
  [form({ json: '{"a":' }), 'structured_outputs.json', /a JSON schema, or its text, got/],
  [form({ json: `{"enum": ${'['.repeat(200)}${']'.repeat(200)}}` }), 'structured_outputs.json', /at most 100 deep/],
  [form({ json: { maxItems: 4097 } }), 'structured_outputs.json', /maxItems of at most 4096, got 4097/],
  [form({ json: levels(65) }), 'structured_outputs.json', /nested at most 64 deep/],
  [form({ json: { a: 'x'.repeat(32_761) } }), 'structured_outputs.json', /32768 characters/],
  [{ sortie: { exit_layer: 12 } }, 'sortie.exit_layer'],
  [{ sortie: { latency_budget_ms: 0 } }, 'sortie.latency_budget_ms'],
  [{ sortie: { budget_on_miss: 'cry' } }, 'sortie.budget_on_miss'],
  [{ sortie: { dry_run: 'yes' } }, 'sortie.dry_run'],
  [{ sortie: { speculate: 'yes' } }, 'sortie.speculate'],
  [{ sortie: { exit: 15 } }, 'sortie.exit', /^sortie\.exit is not .* sortie takes .*exit_layer,/],
  ...['x'.repeat(257), '', 1].map((cache_salt): Row => [{ cache_salt }, 'cache_salt']),
  [Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`x${i}`, 1])), null, /at most 1000 fields, got 1001/],
  ...(['arrays', 'objects'] as const).map((kind): Row => [
    { unknown: nested(20_000, kind) },
    null,
    /^The body must be nested at most 100 deep\.$/,
  ]),
];

const tool = (name: string, parameters?: unknown) => ({ type: 'function', function: { name, parameters } });
const weather = tool('get_weather');
const time = tool('get_time');
const tools = [weather, time];
const call = { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } };
const calling = (text: string, id = 'a') => ({ ...call, id, function: { name: 'f', arguments: text } });
/** Messages after calls of the assistant. */
const after = (calls: unknown[], ...others: object[]) => ({
  messages: [...messages, { role: 'assistant', tool_calls: calls }, ...others],
});
const result = (id: string) => ({ role: 'tool', tool_call_id: id, content: 'x' });
const open = (more: object, ...others: object[]) => ({
  messages: [...messages, { role: 'assistant', content: 'x', ...more }, ...others],
});
/** Arguments of a call at the first depth that is too much, and at ones far beyond. */
const deep = [101, 20_000, 400_000].map((depth): Row => [
  after([calling(`{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`)]),
  'messages[1].tool_calls[0].function.arguments',
  /at most 100 deep/,
]);

const chats: readonly Row[] = [
  [{ messages: null }, 'messages', /, got null\.$/],
  [{ messages: [] }, 'messages'],
  [{ messages: [{ role: 'wizard', content: 'x' }] }, 'messages[0].role'],
  [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages[0].content'],
  [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
  [open({ content: null }), 'messages[1].content'],
  [open({ function_call: {} }), 'messages[1].function_call', NOT_HERE],
  [{ top_logprobs: 1 }, 'top_logprobs'],
  [{ max_tokens: 2500 }, 'messages', /maximum context length/],
  [{ prediction: { type: 'content' } }, 'prediction.content'],
  [{ prediction: { type: 'text', content: 'x' } }, 'prediction.type'],
  [{ prediction: { type: 'content', content: tooLong } }, 'prediction.content', TOO_LONG],
  [{ ...open({}), continue_final_message: true, add_generation_prompt: true }, 'add_generation_prompt'],
  [{ ...after([call]), continue_final_message: true }, 'messages[1].tool_calls'],
  [{ continue_final_message: 'yes' }, 'continue_final_message'],
  ...deep,
  [{ tool_choice: 'auto' }, 'tool_choice'],
  [{ tools: [], tool_choice: 'required' }, 'tool_choice'],
  [{ parallel_tool_calls: false }, 'parallel_tool_calls'],
  [{ tools: [{}] }, 'tools[0].type'],
  [{ tools: [{ ...time, type: 'custom' }] }, 'tools[0].type'],
  [{ tools: [{ type: 'function' }] }, 'tools[0].function'],
  [{ tools: [tool('not a name')] }, 'tools[0].function.name'],
  [{ tools: [weather, weather] }, 'tools[1].function.name'],
  [{ tools: Array.from({ length: 129 }, (_, i) => tool(`f${i}`)) }, 'tools'],
  [{ tools: [tool('f', { type: 'string' })] }, 'tools[0].function.parameters'],
  [{ tools: [time, tool('f', { enum: ['x'.repeat(40_000)] })] }, 'tools[1].function.parameters'],
  [{ tools: [tool('f', { properties: { a: { maxItems: 1e5 } } })] }, 'tools[0].function.parameters'],
  [{ tools: ['a', 'b', 'c', 'd', 'e'].map((name) => tool(name, { description: 'x'.repeat(30_000) })) }, 'tools'],
  [{ tools, tool_choice: 'maybe' }, 'tool_choice'],
  [{ tools, tool_choice: tool('get_stock') }, 'tool_choice'],
  [{ tools, tool_choice: 'any', parallel_tool_calls: 'yes' }, 'tool_choice'],
  [{ tools, ...form({ regex: 'a' }) }, 'structured_outputs.regex'],
  [{ tools, tool_choice: 'required', ...form({ choice: ['a'] }) }, 'structured_outputs.choice'],
  [{ tools, stop_token_ids: [5] }, 'stop_token_ids'],
  [{ tools, tool_choice: 'required', stop: 'x' }, 'stop'],
  [{ tools, tool_choice: tool('get_time'), logprobs: true }, 'logprobs'],
  [{ messages: [result('a')] }, 'messages[0].tool_call_id'],
  [after([call], result('b')), 'messages[2].tool_call_id'],
  [
    after([call], { role: 'tool', content: 'x' }),
    'messages[2].tool_call_id',
    /^messages\[2\].tool_call_id is required\.$/,
  ],
  [after([call], { role: 'tool', tool_call_id: 'a' }), 'messages[2].content'],
  [after([call], ...messages, result('a')), 'messages[3].tool_call_id'],
  [{ messages: [{ role: 'user', content: 'x', tool_calls: [call] }] }, 'messages[0].tool_calls'],
  [{ messages: [{ role: 'user', content: 'x', tool_call_id: 'a' }] }, 'messages[0].tool_call_id'],
  [after([calling('{"a":')]), 'messages[1].tool_calls[0].function.arguments'],
  [after([calling('[]')]), 'messages[1].tool_calls[0].function.arguments'],
  [after([call, calling('x', 'b')]), 'messages[1].tool_calls[1].function.arguments'],
  [after([{}]), 'messages[1].tool_calls[0].id'],
];

const completions: readonly Row[] = [
  [{ max_tokens: 2048 }, 'prompt', /maximum context length/],
  [{ prompt: tooLong }, 'prompt', TOO_LONG],
  [{ logprobs: 21 }, 'logprobs'],
  [{ best_of: 2 }, 'best_of'],
  ...['', [], [[1], []], [49152], Array.from({ length: 65 }, () => 'x')].map((prompt): Row => [{ prompt }, 'prompt']),
];

const flat = { type: 'function', name: 'get_weather' };
const functionCall = { type: 'function_call', call_id: 'a', name: 'f', arguments: '{}' };
const output = { type: 'function_call_output', call_id: 'a', output: 'x' };
const first = messages[0];
const image = { role: 'user', content: [{ type: 'input_image', image_url: 'x' }] };
const jsonText = (fields: object) => ({ text: { format: { type: 'json_schema', ...fields } } });

const responses: readonly Row[] = [
  [{ input: undefined }, 'input'],
  [{ input: [] }, 'input'],
  [{ input: [{ role: 'robot', content: 'x' }] }, 'input[0].role'],
  [{ input: [{ content: 'x' }] }, 'input[0].role'],
  [{ input: [first, { role: 'user' }] }, 'input[1].content'],
  [{ input: [first, image] }, 'input[1].content[0].type', NOT_HERE],
  [{ input: [{ type: 'item_reference', id: 'msg_1' }] }, 'input[0].type', NOT_HERE],
  [{ input: [{ type: 'web_search_call', id: 'x' }] }, 'input[0].type', NOT_HERE],
  [{ input: [{ ...functionCall, call_id: undefined }] }, 'input[0].call_id'],
  [{ input: [{ ...functionCall, name: undefined }] }, 'input[0].name'],
  [{ input: [first, functionCall, { ...functionCall, call_id: 'b', arguments: '[]' }] }, 'input[2].arguments'],
  [{ input: [first, functionCall, { ...output, call_id: 'b' }] }, 'input[2].call_id'],
  [{ input: [first, functionCall, { ...output, output: undefined }] }, 'input[2].output'],
  [{ input: tooLong }, 'input', TOO_LONG],
  [{ input: tooLong, truncation: 'auto' }, 'input', TOO_LONG],
  [{ truncation: 'last' }, 'truncation'],
  [{ top_logprobs: 2 }, 'top_logprobs', NOT_HERE],
  [{ include: ['message.output_text.logprobs'] }, 'include', NOT_HERE],
  [{ max_output_tokens: 0 }, 'max_output_tokens'],
  [{ max_output_tokens: 1, min_tokens: 2 }, 'min_tokens'],
  [{ max_tokens: 5 }, 'max_tokens', NOT_HERE],
  [{ tools: [{ type: 'web_search' }] }, 'tools[0].type', NOT_HERE],
  [{ tools: [{ type: 'function' }] }, 'tools[0].name'],
  [{ tools: [flat, flat] }, 'tools[1].name'],
  [{ tools: [{ ...flat, parameters: { type: 'string' } }] }, 'tools[0].parameters'],
  [{ tools: [flat], tool_choice: { type: 'function', name: 'x' } }, 'tool_choice'],
  [{ tools: [flat], tool_choice: { type: 'allowed_tools', tools: [{ ...flat, name: 'x' }] } }, 'tool_choice.tools'],
  [{ tool_choice: 'required' }, 'tool_choice'],
  [jsonText({}), 'text.format'],
  [jsonText({ schema: { maxItems: 1e5 } }), 'text.format'],
  [{ text: { verbosity: 'loud' } }, 'text.verbosity'],
  [{ reasoning: { effort: 'most' } }, 'reasoning.effort'],
  [{ previous_response_id: 'resp_1' }, 'previous_response_id', NOT_HERE],
  [{ conversation: 'conv_1' }, 'conversation', NOT_HERE],
  [{ background: true }, 'background', NOT_HERE],
  [{ sortie: { exit: 5 } }, 'sortie.exit', NOT_HERE],
];

const blocks = (role: string, ...content: object[]) => ({ messages: [...messages, { role, content }] });
const place = 'messages[1].content[0]';
const use = { type: 'tool_use', id: 'a', name: 'f', input: {} };
const shown = { type: 'tool_result', tool_use_id: 'z' };
const object = { type: 'object', properties: { a: { type: 'string', maxLength: 524_288 } } };
const own = { name: 'get_weather', input_schema: { type: 'object' } };

const anthropic: readonly Row[] = [
  [{ messages: undefined }, 'messages'],
  [{ messages: [] }, 'messages'],
  [{ max_tokens: undefined }, 'max_tokens'],
  [{ max_tokens: 0 }, 'max_tokens'],
  [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages[0].role'],
  [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
  [{ messages: [{ role: 'user', content: [] }] }, 'messages'],
  [blocks('user', { type: 'image', source: {} }), `${place}.type`, NOT_HERE],
  [blocks('user', { type: 'text' }), `${place}.text`],
  [blocks('user', use), `${place}.type`, NOT_HERE],
  [blocks('assistant', { type: 'tool_result', tool_use_id: 'a' }), `${place}.type`, NOT_HERE],
  [blocks('assistant', { ...use, input: undefined }), `${place}.input`],
  [blocks('assistant', { ...use, input: 'x' }), `${place}.input`],
  [blocks('assistant', { type: 'thinking', signature: 'x' }), `${place}.thinking`],
  [blocks('user', { type: 'thinking' }), `${place}.type`, NOT_HERE],
  [blocks('user', shown), `${place}.tool_use_id`],
  [blocks('user', { ...shown, content: [{ type: 'image' }] }), `${place}.content[0].type`, NOT_HERE],
  [{ system: [{ type: 'image' }] }, 'system[0].type', NOT_HERE],
  [{ messages: [{ role: 'user', content: tooLong }] }, 'messages', TOO_LONG],
  [{ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 'tools[0].type', NOT_HERE],
  [{ tools: [{ name: 'f' }] }, 'tools[0].input_schema'],
  [{ tools: [own, own] }, 'tools[1].name'],
  [{ tools: [{ ...own, input_schema: { type: 'string' } }] }, 'tools[0].input_schema'],
  [{ tools: [{ ...own, input_schema: object, strict: true }] }, 'tools[0].input_schema', /at most 4096/],
  [{ tools: [own], tool_choice: { type: 'tool', name: 'x' } }, 'tool_choice'],
  [{ tool_choice: { type: 'any' } }, 'tool_choice'],
  [{ stop_sequences: [''] }, 'stop_sequences[0]'],
  [{ stop_sequences: ['\ud800'] }, 'stop_sequences'],
  [{ mcp_servers: [{}] }, 'mcp_servers', NOT_HERE],
  [{ container: 'x' }, 'container', NOT_HERE],
  [{ stop: 'x' }, 'stop', NOT_HERE],
  [{ temperature: 9 }, 'temperature'],
];

const counted: readonly Row[] = [
  [{}, 'input', /^input is required\.$/],
  [{ input: [{ role: 'user' }] }, 'input[0].content'],
  [{ input: 'x', previous_response_id: 'resp_1' }, 'previous_response_id', NOT_HERE],
  [{ input: 'x', tool_choice: 'required' }, 'tool_choice'],
  [{ input: 'x', tools: [flat, flat] }, 'tools[1].name'],
];

const tokenized: readonly Row[] = [
  ...deep,
  [{}, 'prompt', /^Give either prompt or messages\.$/],
  [{ prompt: 'x', tools }, 'tools'],
  ...Object.entries({ chat_template: 'x', truncate_prompt_tokens: 1, functions: [{ name: 'f' }] }).map(
    ([field, value]): Row => [{ messages, [field]: value }, field, NOT_HERE],
  ),
];

const TABLE: readonly [paths: readonly Path[], rows: readonly Row[]][] = [
  [['/v1/completions', '/v1/chat/completions'], both],
  [['/v1/completions'], completions],
  [['/v1/chat/completions'], chats],
  [['/v1/responses'], responses],
  [['/v1/messages'], anthropic],
  [['/v1/responses/input_tokens'], counted],
  [['/tokenize'], tokenized],
  [['/detokenize'], [[{ tokens: [49152] }, 'tokens']]],
];

/** Checks that the fields are a 400 with this parameter, and this rule or code. */
async function rejects(t: Test, server: TestServer, path: Path, [fields, param, rule = 'invalid_value']: Row) {
  const { status, body, headers } = await server.ask(path, asText({ ...BASES[path], ...fields }));
  const expected = typeof rule === 'string' ? { code: rule } : { code: String, message: rule };
  t.equal(status, 400, path);
  t.match(body.error, { type: 'invalid_request_error', param, ...expected }, path);
  if (param !== null && rule !== TOO_LONG && typeof rule === 'string')
    t.ok(body.error.message.startsWith(param), body.error.message);
  if (path === '/v1/messages') t.match(body, { type: 'error', request_id: headers['request-id'] });
}

for (const [paths, rows] of TABLE)
  void t.test(`a wrong value is a 400 that names the field and its rule: ${paths.join()}`, async (t) => {
    const server = await build(t);
    for (const row of rows)
      await t.test(JSON.stringify(row[0]).slice(0, 90), async (t) => {
        for (const path of paths) await rejects(t, server, path, row);
      });
    t.equal(server.engine.requests.length, 0, 'nothing reached the engine');
  });

const COMPLETIONS: readonly Path[] = ['/v1/completions'];
const CHATS: readonly Path[] = ['/v1/chat/completions'];

/** Fields that would change the answer, with a value that asks for it, and one that asks for nothing. */
const UNSUPPORTED: readonly [field: string, asked: unknown, neutral: unknown, paths?: readonly Path[]][] = [
  ['functions', [{ name: 'f' }], []],
  ['function_call', { name: 'f' }, 'none'],
  ['tools', [{ type: 'function' }], [], COMPLETIONS],
  ['suffix', 'x', ''],
  ['best_of', 2, 1, CHATS],
  ['echo', true, false, CHATS],
  ['reasoning_effort', 'low', 'none', COMPLETIONS],
  ['verbosity', 'low', 'medium'],
  ['modalities', ['audio'], ['text']],
  ['audio', { voice: 'x' }, null],
  ['web_search_options', {}, null],
  ['use_beam_search', true, false],
  ['prompt_logprobs', 1, null],
  ['bad_words', ['x'], []],
  ['truncate_prompt_tokens', 5, null],
  ['allowed_token_ids', [5], []],
  ['chat_template', 'x', null],
  ['thinking_token_budget', 50, null, COMPLETIONS],
  ['n_predict', 5, -1],
  ['repeat_penalty', 1.1, 1],
  ['typical_p', 0.5, 1],
  ['mirostat', 2, 0],
  ['xtc_probability', 0.5, 0],
  ['n_probs', 2, 0],
  ['samplers', ['top_k'], []],
  ['dry_sequence_breakers', [':'], []],
  ['guided_json', {}, null],
  ['guided_regex', 'a', null],
  ['guided_choice', ['a'], []],
  ['guided_grammar', 'start: "a"', null],
];

void t.test('an unsupported field is a 400, unless it asks for nothing', async (t) => {
  const server = await build(t);
  for (const [field, asked, neutral, paths = [...COMPLETIONS, ...CHATS]] of UNSUPPORTED)
    await t.test(field, async (t) => {
      for (const path of paths) {
        const instead = field.startsWith('guided') ? `: use structured_outputs.${field.slice('guided_'.length)}` : '';
        const message = `${field} is not supported by this server${instead}.`;
        t.match(await server.ask(path, { ...BASES[path], [field]: asked }), {
          status: 400,
          body: { error: { code: NOT_HERE, param: field, message } },
        });
        t.equal((await server.ask(path, { ...BASES[path], [field]: neutral })).status, 200, path);
      }
    });
  t.equal((await server.ask('/v1/chat/completions', { messages, unknown_field: 1 })).status, 200);
});

void t.test('a token without a row in the embedding is rejected in every field', async (t) => {
  const server = await build(t, says('x'), { model: { tokenizer: withoutRow() } });
  const id = tokenizer.vocabulary;
  const prediction = { type: 'content', content: '<pad>' };
  const named = new RegExp(`with ids up to ${id - 1}, got "<pad>" \\(id ${id}\\)\\.$`);
  const range = new RegExp(`ids from 0 to ${id - 1}, got "?${id}"?\\.$`);
  const rows: readonly [Path, ...Row][] = [
    ['/v1/completions', { prompt: [1, id] }, 'prompt', range],
    ['/v1/completions', { prompt: [[1], [id]] }, 'prompt', range],
    ['/v1/completions', { prompt: 'a <pad>' }, 'prompt', named],
    ['/v1/completions', { prompt: ['a', '<pad>'] }, 'prompt', named],
    ['/v1/completions', { logit_bias: { [id]: 1 } }, 'logit_bias', range],
    ['/v1/completions', { stop_token_ids: [1, id] }, 'stop_token_ids', range],
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'a <pad>' }] }, 'messages', named],
    ['/v1/chat/completions', { prediction }, 'prediction.content', named],
    ['/tokenize', { prompt: '<pad>' }, 'prompt', named],
    ['/detokenize', { tokens: [id] }, 'tokens', range],
  ];
  for (const [path, ...row] of rows) await rejects(t, server, path, row);
  t.same(server.engine.requests, []);
  t.equal((await server.ask('/v1/completions', { prompt: [1, id - 1], stop_token_ids: [id - 1] })).status, 200);
});

/** Fields with a grammar that the engine rejects, the part that it names, and the field as the client wrote it. */
const UNENFORCEABLE: readonly [path: Path, fields: object, part: number | null | undefined, param: string][] = [
  ['/v1/completions', formatOf({ type: 'banana' }), undefined, 'response_format'],
  ['/v1/chat/completions', form({ grammar: 'root ::= "a"' }), undefined, 'structured_outputs.grammar'],
  ['/v1/chat/completions', { tools }, 1, 'tools[1].function.parameters'],
  ['/v1/chat/completions', { tools }, null, 'tools'],
  ['/v1/chat/completions', { tools, tool_choice: tool('get_time') }, 0, 'tools[1].function.parameters'],
  ['/v1/chat/completions', { tools, ...formatOf({}) }, 2, 'response_format'],
  ['/v1/responses', { tools: [flat] }, 0, 'tools[0].parameters'],
  ['/v1/responses', jsonText({ schema: {} }), 0, 'text.format'],
];

void t.test('a grammar that cannot be enforced is a 400 with the reason, streamed or not', async (t) => {
  const detail = '1(7): Expected token';
  for (const [path, fields, part, param] of UNENFORCEABLE)
    await t.test(`${path}: ${param}`, async (t) => {
      const reject = { reason: 'grammar', leastFeasibleMs: null, detail, ...(part !== undefined && { part }) } as const;
      const server = await build(t, () => ({ tokens: [], reject }));
      for (const stream of [false, true])
        await rejects(t, server, path, [{ ...fields, stream }, param, / that this server can enforce.*: 1\(7\): Exp/]);
    });
  // The answer has begun: the client of a stream gets an error event.
  const error = { error: 'Current row has 3001 items', isLost: false };
  const server = await build(t, says('a1', { end: 'error', ended: error }));
  const cut = await server.chunks('/v1/chat/completions', { messages, ...form({ regex: 'a\\d*' }) });
  const message = /^structured_outputs\.regex must be a regular expression that this server can enforce: Current row/;
  t.match(cut.at(-1)?.error, { code: 'invalid_value', param: 'structured_outputs.regex', message });
});

/** A table of values by endpoint, each with its part of the engine's request. */
import t from 'tap';
import { ChatBody } from '../../src/gateway/api/endpoints/chat-completions/chat-body.js';
import { CompletionBody } from '../../src/gateway/api/endpoints/completions.js';
import { MessagesBody } from '../../src/gateway/api/endpoints/messages/messages-body.js';
import { ResponsesBody } from '../../src/gateway/api/endpoints/responses/responses-body.js';
import type { Sampling } from '../../src/protocol/index.js';
import { biased, BODIES, build } from '../fakes/calls.js';
import { says, tokenizer } from '../fakes/server.js';
import { loadServedModel } from '../../src/gateway/api/load-served-model.js';
import { resolveOptions } from '../../src/cli/options/config.js';
import { samplingWarning } from '../../src/engine/model/common-sampling.js';
import type { Generation } from '../../src/engine/model/manifest.js';

const messages = [{ role: 'user', content: 'Hi' }];
type Path = keyof typeof BODIES;
const COMPLETIONS: readonly Path[] = ['/v1/completions'];
const CHATS: readonly Path[] = ['/v1/chat/completions'];
const BOTH: readonly Path[] = [...COMPLETIONS, ...CHATS];
const RESPONSES: readonly Path[] = ['/v1/responses'];
const MESSAGES: readonly Path[] = ['/v1/messages'];

const generation = { temperature: 0.3, topP: 0.9, topK: 40, minP: 0.05, repetitionPenalty: 1.05 };
const schema = { type: 'object', properties: { a: { enum: [null, 'x'] } } };
const json = { kind: 'json', schema: JSON.stringify(schema) };
const anyObject = { kind: 'json', schema: '{"type":"object"}' };
const LARK = 'start: "a"';
const benchmark = {
  ...{ model: 'fake', max_tokens: 8, stop: null, ignore_eos: true, temperature: 0, stream: true },
  stream_options: { include_usage: true, continuous_usage_stats: true },
};
const parts = (...said: string[]) => [{ role: 'user', content: said.map((text) => ({ type: 'text', text })) }];

/** A format with this schema, under a name. */
const formatOf = (own: unknown, strict?: boolean | null) => ({
  response_format: { type: 'json_schema', json_schema: { name: 'x', strict, schema: own } },
});
const form = (structured_outputs: unknown) => ({ structured_outputs });
const stop = Array.from({ length: 64 }, (_, index) => `never ${index}`);

const sampled = (own: Partial<Sampling>) => ({
  sampling: { dry: undefined, ...generation, ...own },
});
const dry = (multiplier: number, base = 1.75, allowedLength = 2) =>
  sampled({ dry: { multiplier, base, allowedLength } });
const noDry = { sampling: { dry: undefined } };
const free = { grammar: null };

const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const empty = { type: 'object', properties: {}, additionalProperties: false };
const tool = (name: string, more: object = {}) => ({ type: 'function', function: { name, ...more } });
const tools = [tool('get_weather', { parameters }), tool('get_time')];
const named = { type: 'function', name: 'get_time' };
const flat = [{ type: 'function', name: 'get_weather', parameters }, named];
const allowed = { type: 'allowed_tools', mode: 'required', tools: [named] };
const given = [
  { name: 'get_weather', input_schema: parameters },
  { type: 'custom', name: 'get_time', input_schema: empty },
];
const both = [
  { name: 'get_weather', schema: JSON.stringify(parameters) },
  { name: 'get_time', schema: JSON.stringify(empty) },
];
const calls = (functions: readonly object[], isOptional: boolean, most = 16, answer?: string): Engine => ({
  grammar: { kind: 'calls', functions, most, isOptional, ...(answer !== undefined && { answer }) },
});
/** A call whose arguments are as deep as a body may be. */
const deepest = { id: 'a', ...tool('f', { arguments: `{"a":${'['.repeat(99)}${']'.repeat(99)}}` }) };
const object = { response_format: { type: 'json_object' } };
const unbounded = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}';
const long = { type: 'object', properties: { a: { type: 'string', maxLength: 524_288 } }, required: ['a'] };
const own = { seed: 7, top_k: 5, sortie: { exit_layer: 15 } };
const engineOwn = { maxTokens: 9, ...sampled({ seed: 7, topK: 5 }), depth: { minExit: 15, maxExit: 15 } };

/** Fields of the engine's request. */
interface Engine {
  readonly sampling?: object;
  readonly grammar?: object | null;
  readonly [field: string]: unknown;
}
/** Fields, the engine's request, and the endpoints if they are not completions and chats. */
type Served = readonly [fields: object, engine: Engine, paths?: readonly Path[]];
const SERVED: readonly Served[] = [
  [{}, { ...sampled({ presencePenalty: 0, frequencyPenalty: 0 }), minTokens: 0, depth: { minExit: 10, maxExit: 30 } }],
  // Each field that a request states wins by itself over the default of the model.
  [{ temperature: null, top_p: null, top_k: null, min_p: null, repetition_penalty: null }, sampled({})],
  [{ temperature: 0 }, sampled({ temperature: 0 })],
  [{ temperature: 1 }, sampled({ temperature: 1 })],
  [{ top_p: 1 }, sampled({ topP: 1 })],
  [{ top_k: 0 }, sampled({ topK: 0 })],
  [{ top_k: -1 }, sampled({ topK: 0 })],
  [{ min_p: 0 }, sampled({ minP: 0 })],
  [{ repetition_penalty: 1 }, sampled({ repetitionPenalty: 1 })],
  [{ temperature: 0.7, top_k: 5 }, sampled({ temperature: 0.7, topK: 5 })],
  [
    { presence_penalty: 0.5, frequency_penalty: -0.5 },
    sampled({ presencePenalty: 0.5, frequencyPenalty: -0.5, dry: { multiplier: 0, base: 1.75, allowedLength: 2 } }),
  ],
  // A temperature too small to divide by is 0.
  ...[Number.MIN_VALUE, 1.17e-38, 9.99e-6].map((temperature): Served => [{ temperature }, sampled({ temperature: 0 })]),
  [{ temperature: 1e-5 }, sampled({ temperature: 1e-5 })],
  // The DRY penalty is the exit's own, unless the request states a penalty that is not neutral.
  [{ temperature: 0, frequency_penalty: null, dry_multiplier: null, dry_base: null }, noDry],
  [{ frequency_penalty: 0, presence_penalty: 0, repetition_penalty: 1, top_p: 1, top_k: -1, min_p: 0 }, noDry],
  [{ dry_multiplier: 0.8 }, dry(0.8)],
  [{ dry_multiplier: 8, dry_base: 2, dry_allowed_length: 3 }, dry(8, 2, 3)],
  ...[{ dry_multiplier: 0 }, { frequency_penalty: 0.1 }, { presence_penalty: 0.5 }, { repetition_penalty: 1.1 }].map(
    (fields): Served => [fields, { sampling: { dry: { multiplier: 0 } } }],
  ),
  [{ repetition_penalty: 1.1, dry_multiplier: 1 }, { sampling: { dry: { multiplier: 1 } } }],
  [{ seed: 42 }, sampled({ seed: 42 })],
  [
    { logit_bias: { '5': -100, '49151': 3 } },
    sampled({
      logitBias: [
        [5, -100],
        [49151, 3],
      ],
    }),
  ],
  [
    { min_tokens: 2, ignore_eos: true, stop_token_ids: [9] },
    { minTokens: 2, stopTokens: [9] },
  ],
  [{ logprobs: 5, user: 'someone' }, { maxTokens: 16, logprobs: 5, promptLogprobs: null }, COMPLETIONS],
  [{ max_tokens: 9, max_completion_tokens: 5 }, { maxTokens: 5 }],
  [{ stop: 'x'.repeat(256) }, {}],
  [{ stop }, {}],
  [{ logit_bias: biased(49_152) }, {}],
  [{ logit_bias: biased(6144), n: 8 }, {}],
  [{ cache_salt: 'x'.repeat(256), sortie: { exit: null, latency_budget_ms: null } }, {}],
  [Object.fromEntries(Array.from({ length: 999 }, (_, i) => [`x${i}`, 1])), {}],
  // Benchmark tools send these.
  [{ ...benchmark, best_of: 1, repetition_penalty: 1, logprobs: null }, { stopTokens: [] }, COMPLETIONS],
  [{ ...benchmark, messages: parts('Hi'), max_completion_tokens: 8 }, { stopTokens: [] }, CHATS],
  // A grammar decides the kind of an answer, else the endpoint.
  [{ response_format: null }, { ...free, kind: 'completion' }, COMPLETIONS],
  [{ response_format: { type: 'text' } }, { ...free, kind: 'chat' }, CHATS],
  [{ messages: [{ role: 'user', content: 'Reverse it in Python.' }, ...messages] }, { ...free, kind: 'code' }, CHATS],
  [{ response_format: { type: 'json_object' } }, { grammar: anyObject, kind: 'schema' }],
  [{ response_format: { type: 'json_object', schema: null } }, { grammar: anyObject }],
  [{ response_format: { type: 'json_object', schema } }, { grammar: json }],
  [formatOf(schema, true), { grammar: json, kind: 'schema' }],
  [formatOf(true, null), { grammar: { kind: 'json', schema: 'true' } }],
  [form({ json: schema }), { grammar: json, kind: 'schema' }],
  [form({ json: JSON.stringify(schema) }), { grammar: json }],
  [form({ json_object: true }), { grammar: anyObject }],
  [form({ regex: 'a\\d+' }), { grammar: { kind: 'regex', pattern: 'a\\d+' }, kind: 'schema' }],
  [form({ regex: 'a', json: null, disable_any_whitespace: true }), { grammar: { kind: 'regex', pattern: 'a' } }],
  ...[{ maxItems: 4096 }, { a: 'x'.repeat(32_760) }].map((most): Served => [form({ json: most }), {}]),
  [form({ grammar: 'x'.repeat(32_768) }), {}],
  [form({ choice: ['a1', 'b'] }), { grammar: { kind: 'choice', choices: ['a1', 'b'] } }],
  [form({ grammar: LARK }), { grammar: { kind: 'written', grammar: LARK } }],
  [{ structured_outputs: null, guided_json: null, guided_choice: [], grammar: '' }, free],
  [{ prediction: null }, { prediction: null, speculate: null }, CHATS],
  ...['Paris is big.', parts('Paris is ', 'big.')[0]?.content].map((content): Served => [
    { prediction: { type: 'content', content }, sortie: { speculate: true } },
    { prediction: tokenizer.encode('Paris is big.', false), speculate: true },
    CHATS,
  ]),
  [{ messages: [...messages, { role: 'assistant', tool_calls: [deepest] }] }, {}, CHATS],
  ...[{ tool_choice: 'none' }, { tools: [], tool_choice: 'none' }, { top_logprobs: 0 }].map((fields): Served => [
    fields,
    { ...free, logprobs: null },
    CHATS,
  ]),
  [{ tools: null, tool_choice: null, parallel_tool_calls: null }, { ...free, kind: 'chat' }, CHATS],
  [{ tools }, calls(both, true), CHATS],
  [{ tools, tool_choice: 'auto', parallel_tool_calls: false }, calls(both, true, 1), CHATS],
  [{ tools, tool_choice: 'required' }, calls(both, false), CHATS],
  [{ tools, tool_choice: tool('get_time') }, calls(both.slice(1), false, 1), CHATS],
  [{ tools, tool_choice: 'none' }, { ...free, kind: 'chat' }, CHATS],
  [{ tools, tool_choice: 'none', ...object }, { grammar: { kind: 'json' } }, CHATS],
  [{ tools, parallel_tool_calls: false, ...object }, calls(both, false, 1, anyObject.schema), CHATS],
  [{ tools, ...form({ json: schema }) }, calls(both, false, 16, json.schema), CHATS],
  // The answer is a call.
  [{ tools, tool_choice: 'required', ...object }, calls(both, false), CHATS],
  [{ tools: flat }, calls(both, true), RESPONSES],
  [{ tools: flat, tool_choice: 'required' }, calls(both, false), RESPONSES],
  [{ tools: flat, tool_choice: named }, calls(both.slice(1), false, 1), RESPONSES],
  [{ tools: flat, tool_choice: allowed }, calls(both.slice(1), false), RESPONSES],
  [{ tools: flat, tool_choice: 'none' }, free, RESPONSES],
  [{ tools: [], tool_choice: 'auto', parallel_tool_calls: false }, free, RESPONSES],
  [{ text: { format: { type: 'json_schema', name: 'x', schema, strict: true } } }, { grammar: json }, RESPONSES],
  [{ text: { format: { type: 'json_object' } } }, { grammar: anyObject }, RESPONSES],
  [{ ...own, max_output_tokens: 9 }, engineOwn, RESPONSES],
  [{ tools: given }, calls(both, true), MESSAGES],
  [{ tools: given, tool_choice: { type: 'auto', disable_parallel_tool_use: true } }, calls(both, true, 1), MESSAGES],
  [{ tools: given, tool_choice: { type: 'any' } }, calls(both, false), MESSAGES],
  [{ tools: given, tool_choice: { type: 'tool', name: 'get_time' } }, calls(both.slice(1), false, 1), MESSAGES],
  [{ tools: given, tool_choice: { type: 'none' } }, free, MESSAGES],
  [{ tools: [], tool_choice: { type: 'auto' } }, free, MESSAGES],
  [{ output_config: { format: { type: 'json_schema', schema }, effort: 'low' } }, { grammar: json }, MESSAGES],
  // A bound beyond the limit of a grammar is left out, unless the tool is strict.
  [{ tools: [{ name: 'f', input_schema: long }] }, calls([{ name: 'f', schema: unbounded }], true), MESSAGES],
  [{ ...own, max_tokens: 9 }, engineOwn, MESSAGES],
];

void t.test('a field reaches the engine', async (t) => {
  const server = await build(t, says('a1'), { model: { generation } });
  for (const [fields, engine, paths = BOTH] of SERVED)
    await t.test(JSON.stringify(fields).slice(0, 90), async (t) => {
      for (const path of paths) {
        const answer = await server.ask(path, { ...BODIES[path], ...fields });
        // An answer of the scripted engine may break its grammar.
        if (server.last().grammar === null) t.equal(answer.status, 200, `${path}: ${answer.text}`);
        const { sampling, grammar, ...rest } = server.last();
        const { sampling: expected, grammar: rule, ...others } = engine;
        t.match(sampling, expected ?? {}, path);
        if (expected !== undefined && 'dry' in expected)
          t.equal(sampling.dry === undefined, expected.dry === undefined);
        if (rule !== undefined && rule !== null && 'functions' in rule) t.strictSame(grammar, rule);
        else if (rule !== undefined) t.match(grammar, rule);
        t.match(rest, others, path);
      }
    });
});

void t.test('null for an optional field equals a missing field, at any depth', async (t) => {
  const server = await build(t, says('x'));
  const schemas = [CompletionBody, ChatBody, ResponsesBody, MessagesBody];
  for (const [index, [path, base]] of Object.entries(BODIES).entries()) {
    const optional = Object.keys(schemas[index]?.properties ?? {}).filter((field) => !(field in base));
    for (const more of [{}, Object.fromEntries(optional.map((field) => [field, null]))])
      t.equal((await server.ask(path, { ...base, ...more })).status, 200, path);
    const [plain, withNulls] = server.engine.requests.slice(-2);
    const comparable = { id: '', arrivedAt: 0 };
    t.strictSame({ ...withNulls, ...comparable }, { ...plain, ...comparable }, path);
  }
  const again = { refusal: null, annotations: null, audio: null, function_call: null, tool_calls: null };
  const turns = [
    { role: 'system', content: 'x', name: null },
    ...messages,
    { role: 'assistant', ...parts('Yes?')[0], ...again },
    ...messages,
  ];
  const json_schema = { name: 'n', description: null, strict: null, schema };
  const fields = { messages: turns, response_format: { type: 'json_schema', json_schema } };
  t.equal((await server.ask('/v1/chat/completions', fields)).status, 200);
  t.match(server.last().grammar, { schema: JSON.stringify(schema) }, 'nulls of the schema itself stay');
});

// Sampling of requests that state none of its fields, or only some: the model's defaults, or those of OpenAI's API.

const neutral = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 };

void t.test(
  'a model that states no sampling has that of llama.cpp, and one that states a part is neutral',
  async (t) => {
    const sampled = async (generation: Generation) => {
      const server = await build(t, undefined, { model: { generation } });
      await server.ask('/v1/chat/completions', { messages });
      return server.last().sampling;
    };
    t.match(await sampled({}), { ...neutral, temperature: 0.8, topP: 0.95, topK: 40 });
    t.match(await sampled({ maxTokens: 9, repetitionPenalty: 1.1 }), { temperature: 0.8, repetitionPenalty: 1.1 });
    t.match(await sampled({ topK: 20 }), { ...neutral, topK: 20 });
  },
);

void t.test('the warning about guessed sampling names the option that states it', (t) => {
  t.match(samplingWarning({}), /temperature 0\.8, top_p 0\.95 and top_k 40.*sortie convert SOURCE .*--generation/s);
  t.equal(samplingWarning({ generation: { temperature: 1 } }), null);
  t.end();
});

void t.test('/props has the defaults, and an answer states its sampling if the request asks', async (t) => {
  const server = await build(t, undefined, { model: { generation } });
  const fields = { temperature: 0.3, top_p: 0.9, top_k: 40, min_p: 0.05, repetition_penalty: 1.05 };
  t.match((await server.get('/props')).body, { sampling_defaults: fields });
  const report = async (body: object) =>
    (await server.ask('/v1/chat/completions', { messages, ...body })).body.sortie ?? {};
  t.notOk('sampling' in (await report({})));
  const penalties = { presence_penalty: 0, frequency_penalty: 0 };
  const { sampling } = await report({ sortie: { show_sampling: true } });
  t.strictSame(sampling, { ...fields, ...penalties });
  const stated = { top_p: 0.5, dry_multiplier: 1 };
  const own = { ...fields, ...penalties, ...stated, dry_base: 1.75, dry_allowed_length: 2 };
  t.strictSame((await report({ ...stated, sortie: { show_sampling: true } })).sampling, own);
  // The report can be sent as a request.
  t.strictSame((await report({ ...own, sortie: { show_sampling: true } })).sampling, own);
});

void t.test('the embedded model has calm defaults, and a rule against loops at every exit', (t) => {
  const embedded = loadServedModel(resolveOptions({}, {}).model);
  t.strictSame(embedded.generation, { temperature: 0.2, topP: 0.9, maxTokens: 1024 });
  t.ok(embedded.exits.every(({ dry }) => (dry?.multiplier ?? 0) > 0));
  t.end();
});

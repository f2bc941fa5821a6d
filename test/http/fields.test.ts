/**
 * Fields that completions and chats share. A value stands with its part of the engine's request, and a wrong one with
 * the field and the rule of its error.
 */
import t from 'tap';
import type { SequenceRequest } from '../../src/protocol/index.js';
import { asText } from '../fakes/nested.js';
import { build, events, says, tokenizer, withoutRow } from '../fakes/server.js';

const messages = [{ role: 'user', content: 'Hi' }];
const BASES = { '/v1/completions': { prompt: 'Hi' }, '/v1/chat/completions': { messages } } as const;
type Path = keyof typeof BASES;
const COMPLETIONS: readonly Path[] = ['/v1/completions'];
const CHATS: readonly Path[] = ['/v1/chat/completions'];
const BOTH: readonly Path[] = [...COMPLETIONS, ...CHATS];

const generation = { temperature: 0.3, topP: 0.9, topK: 40, minP: 0.05, repetitionPenalty: 1.05 };
const schema = { type: 'object', properties: { a: { enum: [null, 'x'] } } };
const json = { kind: 'json', schema: JSON.stringify(schema) };
const anyObject = { kind: 'json', schema: '{"type":"object"}' };
const LARK = 'start: "a"';

/** A format with this schema, under a name. */
const formatOf = (own: unknown, strict?: boolean | null) => ({
  response_format: { type: 'json_schema', json_schema: { name: 'x', strict, schema: own } },
});
const form = (structured_outputs: unknown) => ({ structured_outputs });
/** A bias for each of `count` tokens. */
const biased = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, id) => [id, 1]));
const stops = Array.from({ length: 65 }, (_, index) => `never ${index}`);

const sampled = (own: Partial<SequenceRequest['sampling']>) => ({
  sampling: { dry: undefined, ...generation, ...own },
});
const dry = (multiplier: number, base = 1.75, allowedLength = 2) =>
  sampled({ dry: { multiplier, base, allowedLength } });
const noDry = { sampling: { dry: undefined } };
const free = { grammar: null };

/** Fields, the engine's request, and the endpoints if they are not both. */
const SERVED: readonly [fields: object, engine: object, paths?: readonly Path[]][] = [
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
  ...[Number.MIN_VALUE, 1.17e-38, 9.99e-6].map((temperature): [object, object] => [
    { temperature },
    sampled({ temperature: 0 }),
  ]),
  [{ temperature: 1e-5 }, sampled({ temperature: 1e-5 })],
  // The DRY penalty is the exit's own, unless the request states a penalty that is not neutral.
  [{ temperature: 0, frequency_penalty: null, dry_multiplier: null, dry_base: null }, noDry],
  [{ frequency_penalty: 0, presence_penalty: 0, repetition_penalty: 1, top_p: 1, top_k: -1, min_p: 0 }, noDry],
  [{ dry_multiplier: 0.8 }, dry(0.8)],
  [{ dry_multiplier: 8, dry_base: 2, dry_allowed_length: 3 }, dry(8, 2, 3)],
  ...[{ dry_multiplier: 0 }, { frequency_penalty: 0.1 }, { presence_penalty: 0.5 }, { repetition_penalty: 1.1 }].map(
    (fields): [object, object] => [fields, { sampling: { dry: { multiplier: 0 } } }],
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
  // A grammar decides the kind of an answer, else the endpoint.
  [{ response_format: null }, { ...free, kind: 'completion' }, COMPLETIONS],
  [{ response_format: { type: 'text' } }, { ...free, kind: 'chat' }, CHATS],
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
  [form({ choice: ['a1', 'b'] }), { grammar: { kind: 'choice', choices: ['a1', 'b'] } }],
  [form({ grammar: LARK }), { grammar: { kind: 'written', grammar: LARK } }],
  [{ structured_outputs: null, guided_json: null, guided_choice: [], grammar: '' }, free],
  [{ tools: [{ type: 'function', function: { name: 'now' } }] }, { kind: 'tools' }, CHATS],
  [{ tools: [{ type: 'function', function: { name: 'now' } }], tool_choice: 'none' }, { ...free, kind: 'chat' }, CHATS],
];

void t.test('a field reaches the engine', async (t) => {
  const server = await build(t, says('a1'), { model: { generation } });
  for (const [fields, engine, paths = BOTH] of SERVED)
    await t.test(JSON.stringify(fields).slice(0, 90), async (t) => {
      for (const path of paths) {
        const response = await server.post(path, { ...BASES[path], ...fields });
        t.equal(response.status, 200, `${path}: ${await response.text()}`);
        const { sampling, ...own } = server.engine.requests.at(-1) ?? {};
        const { sampling: expected, ...others } = engine as Partial<SequenceRequest>;
        t.match(sampling, expected ?? {}, path);
        if (expected !== undefined && Object.hasOwn(expected, 'dry'))
          t.equal(sampling?.dry === undefined, expected.dry === undefined);
        t.match(own, others, path);
      }
    });
});

/** Fields, the parameter, the rule, and the endpoints if they are not both. */
const WRONG: readonly [fields: object, param: string, rule?: RegExp, paths?: readonly Path[]][] = [
  [{ temperature: 3 }, 'temperature'],
  [{ temperature: '0.5' }, 'temperature'],
  [{ stream: 'true' }, 'stream'],
  [{ top_p: 0 }, 'top_p'],
  [{ n: 0 }, 'n'],
  [{ n: 65 }, 'n'],
  ...['', ['a', ''], stops, 'x'.repeat(257), ['x'.repeat(257)]].map((stop): [object, string] => [{ stop }, 'stop']),
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
  [{ max_tokens: 256 }, 'prompt', /maximum context length/, COMPLETIONS],
  [{ logprobs: 21 }, 'logprobs', /./, COMPLETIONS],
  [{ best_of: 2 }, 'best_of', /./, COMPLETIONS],
  ...['', [], [[1], []], [49152], Array.from({ length: 65 }, () => 'x')].map(
    (prompt): [object, string, RegExp, readonly Path[]] => [{ prompt }, 'prompt', /./, COMPLETIONS],
  ),
  [{ response_format: { type: 'xml' } }, 'response_format'],
  [{ response_format: { type: 'json_schema' } }, 'response_format'],
  [formatOf(5), 'response_format'],
  [{ response_format: { type: 'json_object', schema: 5 } }, 'response_format'],
  [{ response_format: { type: 'json_object', schema: { maxItems: 1e5 } } }, 'response_format', /maxItems/],
  [formatOf({ enum: ['x'.repeat(40_000)] }), 'response_format', /32768/],
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
  [form({ grammar: 'x'.repeat(40_000) }), 'structured_outputs.grammar', /32768 characters, got 40000/],
  [form({ json: 5 }), 'structured_outputs.json', /a JSON schema, or its text/],
  [form({ json: '{"a":' }), 'structured_outputs.json', /a JSON schema, or its text, got/],
  [form({ json: `{"enum": ${'['.repeat(200)}${']'.repeat(200)}}` }), 'structured_outputs.json', /at most 100 deep/],
  [form({ json: { maxItems: 1e5 } }), 'structured_outputs.json', /maxItems/],
  [form({ json: `"${'x'.repeat(40_000)}"` }), 'structured_outputs.json', /32768 characters/],
  [{ sortie: { exit_layer: 12 } }, 'sortie.exit_layer'],
  [{ sortie: { latency_budget_ms: 0 } }, 'sortie.latency_budget_ms'],
  [{ sortie: { budget_on_miss: 'cry' } }, 'sortie.budget_on_miss'],
  [{ messages: [] }, 'messages', /./, CHATS],
  [{ messages: [{ role: 'wizard', content: 'x' }] }, 'messages[0].role', /./, CHATS],
  [{ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages[0].content', /./, CHATS],
  [{ messages: [{ role: 'user' }] }, 'messages[0].content', /./, CHATS],
  [{ messages: [...messages, { role: 'assistant', content: null }] }, 'messages[1].content', /./, CHATS],
  [{ tools: [{ type: 'function' }] }, 'tools[0].function', /./, CHATS],
  [{ top_logprobs: 3 }, 'top_logprobs', /./, CHATS],
  [{ max_tokens: 1000 }, 'messages', /maximum context length/, CHATS],
];

/** Fields that would change the answer, with a value that asks for it, and one that asks for nothing. */
const UNSUPPORTED: readonly [field: string, asked: unknown, neutral: unknown, paths?: readonly Path[]][] = [
  ['functions', [{ name: 'f' }], []],
  ['function_call', { name: 'f' }, 'none'],
  ['tools', [{ type: 'function' }], [], COMPLETIONS],
  ['suffix', 'x', ''],
  ['best_of', 2, 1, CHATS],
  ['echo', true, false, CHATS],
  ['reasoning_effort', 'low', 'none'],
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
  ['thinking_token_budget', 50, null],
  ['n_predict', 5, -1],
  ['repeat_penalty', 1.1, 1],
  ['typical_p', 0.5, 1],
  ['mirostat', 2, 0],
  ['xtc_probability', 0.5, 0],
  ['n_probs', 2, 0],
  ['samplers', ['top_k'], []],
  ['dry_sequence_breakers', [':'], []],
  ['guided_json', schema, null],
  ['guided_regex', 'a', null],
  ['guided_choice', ['a'], []],
  ['guided_grammar', LARK, null],
];

void t.test('a wrong value is a 400 that names the field and its rule', async (t) => {
  const server = await build(t);
  for (const [fields, param, rule = /./, paths = BOTH] of WRONG)
    await t.test(JSON.stringify(fields).slice(0, 90), async (t) => {
      for (const path of paths) {
        const response = await server.post(path, asText({ ...BASES[path], ...fields }));
        t.equal(response.status, 400, path);
        t.match(await response.json(), {
          error: { type: 'invalid_request_error', code: String, param, message: rule },
        });
      }
    });
  t.equal(server.engine.requests.length, 0, 'nothing reached the engine');
});

void t.test('an unsupported field is a 400, unless it asks for nothing', async (t) => {
  const server = await build(t);
  for (const [field, asked, neutral, paths = BOTH] of UNSUPPORTED)
    await t.test(field, async (t) => {
      for (const path of paths) {
        const rejected = await server.post(path, { ...BASES[path], [field]: asked });
        t.equal(rejected.status, 400, path);
        const instead = field.startsWith('guided') ? `: use structured_outputs.${field.slice('guided_'.length)}` : '';
        // Chats have these fields, and this model has no thoughts.
        const isOwn = path === CHATS[0] && ['reasoning_effort', 'thinking_token_budget'].includes(field);
        const message = isOwn ? /model/ : `${field} is not supported by this server${instead}.`;
        t.match(await rejected.json(), { error: { code: 'unsupported_parameter', param: field, message } });
        t.equal((await server.post(path, { ...BASES[path], [field]: neutral })).status, 200, path);
      }
    });
  const call = { role: 'assistant', content: 'x', function_call: {} };
  const response = await server.post('/v1/chat/completions', { messages: [...messages, call] });
  t.match(await response.json(), { error: { code: 'unsupported_parameter', param: 'messages[1].function_call' } });
  t.equal((await server.post('/v1/chat/completions', { messages, unknown_field: 1 })).status, 200);
});

void t.test('a token without a row in the embedding is rejected in every field', async (t) => {
  const server = await build(t, says('x'), { model: { tokenizer: withoutRow() } });
  const id = tokenizer.vocabulary;
  const [plain, padded] = ['a', 'a <pad>'].map((content) => [{ role: 'user', content }]);
  const prediction = { type: 'content', content: '<pad>' };
  const named = new RegExp(`with ids up to ${id - 1}, got "<pad>" \\(id ${id}\\)\\.$`);
  const range = new RegExp(`ids from 0 to ${id - 1}, got "?${id}"?\\.$`);
  const cases: [path: string, body: object, param: string, message: RegExp][] = [
    ['/v1/completions', { prompt: [1, id] }, 'prompt', range],
    ['/v1/completions', { prompt: [[1], [id]] }, 'prompt', range],
    ['/v1/completions', { prompt: 'a <pad>' }, 'prompt', named],
    ['/v1/completions', { prompt: ['a', '<pad>'] }, 'prompt', named],
    ['/v1/completions', { prompt: 'a', logit_bias: { [id]: 1 } }, 'logit_bias', range],
    ['/v1/completions', { prompt: 'a', stop_token_ids: [1, id] }, 'stop_token_ids', range],
    ['/v1/chat/completions', { messages: padded }, 'messages', named],
    ['/v1/chat/completions', { messages: plain, prediction }, 'prediction.content', named],
    ['/tokenize', { prompt: '<pad>' }, 'prompt', named],
    ['/detokenize', { tokens: [id] }, 'tokens', range],
  ];
  for (const [path, body, param, message] of cases) {
    const response = await server.post(path, body);
    t.equal(response.status, 400, `${path} ${JSON.stringify(body)}`);
    t.match(await response.json(), { error: { code: 'invalid_value', param, message } });
  }
  t.same(server.engine.requests, []);
  t.equal((await server.post('/v1/completions', { prompt: [1, id - 1], stop_token_ids: [id - 1] })).status, 200);
});

void t.test('the largest grammars are accepted, and larger ones are a 400', async (t) => {
  const server = await build(t);
  const nested = (levels: number): object => (levels === 1 ? {} : { items: nested(levels - 1) });
  const cases: [string, (size: number) => object, number, RegExp][] = [
    ['levels', (size) => ({ json: nested(size) }), 64, /nested at most 64 deep/],
    ['items', (size) => ({ json: { maxItems: size } }), 4096, /maxItems of at most 4096, got 4097/],
    ['units of a schema', (size) => ({ json: { a: 'x'.repeat(size - 8) } }), 32_768, /at most 32768 characters/],
    ['units of a text', (size) => ({ regex: 'x'.repeat(size) }), 32_768, /at most 32768 characters, got 32769/],
    ['units of choices', (size) => ({ choice: ['x', 'y'.repeat(size - 1)] }), 32_768, /32768 characters in all/],
  ];
  for (const [name, fields, most, message] of cases) {
    await t.test(name, async (t) => {
      const ask = (size: number) => server.post('/v1/chat/completions', { messages, structured_outputs: fields(size) });
      const [largest, larger] = [await ask(most), await ask(most + 1)];
      t.equal(largest.status, 200, await largest.text());
      t.match(await larger.json(), { error: { code: 'invalid_value', message } });
    });
  }
});

void t.test(
  'the reason of a grammar that cannot be enforced reaches the client, at its start or in the answer',
  async (t) => {
    const reject = { reason: 'grammar', leastFeasibleMs: null, detail: '1(7): Expected token' } as const;
    const rejected = await build(t, () => ({ tokens: [], reject }));
    const wrong = await rejected.post('/v1/chat/completions', {
      messages,
      structured_outputs: { grammar: 'root ::= "a"' },
    });
    t.equal(wrong.status, 400);
    const form =
      /^structured_outputs\.grammar must be a grammar in the notation of Lark that this server can enforce: 1\(7\): Expected/;
    t.match(await wrong.json(), {
      error: { code: 'invalid_value', param: 'structured_outputs.grammar', message: form },
    });
    // The answer has begun: the client of a stream gets an error event.
    const error = { error: 'Current row has 3001 items', isLost: false };
    const failing = await build(t, says('a1', { end: 'error', ended: error }));
    const cut = await failing.post('/v1/chat/completions', {
      messages,
      structured_outputs: { regex: 'a\\d*' },
      stream: true,
    });
    const last = (await events(cut)).at(-2) ?? '';
    const message = /^structured_outputs\.regex must be a regular expression that this server can enforce: Current row/;
    t.match(JSON.parse(last), { error: { code: 'invalid_value', param: 'structured_outputs.regex', message } });
  },
);

/** Request bodies that no client would send, by endpoint. */
import fc from 'fast-check';
import { ChatBody } from '../../src/gateway/api/endpoints/chat-completions/chat-body.js';
import { CompletionBody } from '../../src/gateway/api/endpoints/completions.js';
import { CountTokensBody, MessagesBody } from '../../src/gateway/api/endpoints/messages/messages-body.js';
import { InputTokensBody, ResponsesBody } from '../../src/gateway/api/endpoints/responses/responses-body.js';

type Kind = 'arrays' | 'objects';

/** A placeholder for a value of this depth, which `asText` replaces. */
export const nested = (depth: number, kind: Kind = 'arrays'): string => `nested ${depth} ${kind}`;

function levels(depth: number, kind: Kind): string {
  const [open, close] = kind === 'arrays' ? ['[', ']'] : ['{"a":', '}'];
  return `${open.repeat(depth)}1${close.repeat(depth)}`;
}

/** A body as JSON, with the values of `nested` in place. */
export function asText(body: unknown): string {
  return JSON.stringify(body).replace(/"nested (\d+) (\w+)"/g, (_, depth, kind: Kind) => levels(Number(depth), kind));
}

/**
 * Values near the edges of every rule, and plain nonsense. `asText` writes them: some are nested too deep for
 * JSON.stringify.
 */
const value = fc.oneof(
  fc.constantFrom(null, true, false, '', 'x', 0, -1, 1, 2, 0.5, 20, 21, 1e308, -1e308, 2 ** 53, '10', [], {}),
  fc.constantFrom(nested(50), nested(101), nested(20_000), nested(60, 'objects'), nested(9000, 'objects')),
  fc.jsonValue({ maxDepth: 2 }),
  fc.array(fc.integer({ min: -2, max: 60_000 }), { maxLength: 4 }),
  fc.array(fc.string(), { maxLength: 5 }),
  fc.dictionary(
    fc.constantFrom('0', '5', '49152', 'x', 'exit_layer', 'latency_budget_ms', 'include_usage'),
    fc.jsonValue(),
  ),
);

function bodies(fields: readonly string[]) {
  return fc.dictionary(fc.constantFrom(...fields, 'tools', 'suffix', 'response_format', '__proto__', 'other'), value, {
    maxKeys: 6,
  });
}

/** Schemas of arguments. The engine can enforce only the first three. */
const parameters = fc.constantFrom<unknown>(
  {},
  { type: 'object', properties: { a: { type: 'string', maxLength: 3 } }, required: ['a'], additionalProperties: false },
  { properties: { a: { enum: [null, 'ü', 1] }, b: { type: 'array', items: { type: 'integer' }, maxItems: 2 } } },
  { type: 'object', properties: { a: { type: 'banana' } } },
  { type: 'object', not: {} },
  { properties: { a: { type: 'string', pattern: '[' } } },
  { properties: { a: { $ref: '#/nowhere' } } },
  { properties: { a: false }, required: ['a'] },
  { type: nested(20_000) },
  { properties: { a: { enum: [nested(80)] } } },
);

const named = { name: fc.constantFrom('f', 'g', 'h', 'i'), parameters, input_schema: parameters };

/** Tools that are often valid, so that the engine writes calls: nested in chats, flat in the other forms. */
const toolBodies = (isNested: boolean): fc.Arbitrary<Body> => {
  const tool = fc.record(named, { requiredKeys: ['name'] });
  const type = fc.constantFrom('function', ...(isNested ? [] : ['custom', 'web_search']));
  return fc.record(
    {
      tools: fc.array(
        fc.tuple(type, tool).map(([kind, each]) => ({ type: kind, ...(isNested ? { function: each } : each) })),
        { maxLength: 3 },
      ),
      tool_choice: fc.constantFrom<unknown>(
        ...['auto', 'none', 'required', { type: 'any' }, { type: 'tool', name: 'f' }],
        isNested ? { type: 'function', function: { name: 'f' } } : { type: 'function', name: 'f' },
        { type: 'allowed_tools', tools: [{ type: 'function', name: 'g' }] },
      ),
      parallel_tool_calls: fc.boolean(),
      max_tokens: fc.integer({ min: 1, max: 40 }),
      stream: fc.boolean(),
      stop: fc.constantFrom<unknown>('x', []),
    },
    { requiredKeys: ['tools'] },
  );
};

/** Grammars in every notation, right and wrong, also ones that break the grammar library. */
const grammars = fc.oneof(
  fc.constantFrom(
    '[a-z]{2,5}',
    '(a|b)*c?',
    '^x$',
    '(',
    '(?=a)b',
    '[^\\s\\S]',
    'a{1,1000000000}',
    'start: "a" | B\nB: /[0-9]+/',
    'start: nothing',
    'start: <|0|> "a"',
    'start: %json {"type": 5}',
    'start: a\na: a',
    'root ::= [a-z]+ ("," root)?',
    'root ::= root',
    'root ::= "a" | x',
    'root ::= (',
    `root ::= ${'('.repeat(60)}"a"${')'.repeat(60)}`,
    `start: ${Array.from({ length: 2500 }, (_, index) => `"x" "${index}"`).join(' | ')}`,
  ),
  fc.string({
    unit: fc.constantFrom('root ::= ', 'start: ', '"', 'a', '(', ')', '[', ']', '|', '*', '/', '\n'),
    maxLength: 9,
  }),
);
const grammarBodies = fc.oneof(
  fc
    .tuple(fc.constantFrom('regex', 'grammar', 'json'), grammars)
    .map(([field, grammar]) => ({ structured_outputs: { [field]: grammar } })),
  fc.array(fc.string(), { maxLength: 3 }).map((choice) => ({ structured_outputs: { choice } })),
);

/** Text, or parts of which some are nonsense. */
const content = fc.oneof(
  fc.string({ maxLength: 5 }),
  fc.array(
    fc.record(
      {
        type: fc.constantFrom(...['text', 'input_text', 'output_text', 'refusal', 'input_image', 'image', 'thinking']),
        text: fc.oneof(fc.string({ maxLength: 5 }), value),
      },
      { requiredKeys: ['type'] },
    ),
    { maxLength: 3 },
  ),
);

const id = fc.constantFrom('a', 'b', '');

/** Items of which most have a known type, so that many conversations are valid. */
const itemBodies = fc.record({
  input: fc.array(
    fc.oneof(
      fc.record({ role: fc.constantFrom('user', 'assistant', 'developer', 'robot'), content }),
      fc.record({
        type: fc.constant('function_call'),
        call_id: id,
        name: fc.constant('f'),
        arguments: fc.constantFrom('{}', '['),
      }),
      fc.record({ type: fc.constant('function_call_output'), call_id: id, output: content }),
      fc.record({ type: fc.constantFrom('reasoning', 'item_reference', 'message'), content: value }),
      value,
    ),
    { maxLength: 4 },
  ),
});

/** Messages of which most have known blocks. */
const blockBodies = fc.record({
  messages: fc.array(
    fc.record({
      role: fc.constantFrom('user', 'assistant', 'system'),
      content: fc.oneof(
        content,
        fc.array(
          fc.oneof(
            fc.record({ type: fc.constant('tool_use'), id, name: fc.constant('f'), input: value }),
            fc.record({ type: fc.constant('tool_result'), tool_use_id: id, content }),
            value,
          ),
          { maxLength: 3 },
        ),
      ),
    }),
    { maxLength: 4 },
  ),
});

type Body = Record<string, unknown>;
const mixed = (...parts: readonly (readonly [weight: number, arbitrary: fc.Arbitrary<Body>])[]): fc.Arbitrary<Body> =>
  fc.oneof(...parts.map(([weight, arbitrary]) => ({ weight, arbitrary })));

export const targets = [
  {
    path: '/v1/completions',
    base: { prompt: 'Hello', max_tokens: 2 },
    body: mixed([9, bodies(Object.keys(CompletionBody.properties))], [1, grammarBodies]),
  },
  {
    path: '/v1/chat/completions',
    base: { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 },
    body: mixed([9, bodies(Object.keys(ChatBody.properties))], [1, toolBodies(true)]),
  },
  {
    path: '/v1/responses',
    base: { input: 'Hi', max_output_tokens: 2 },
    body: mixed([3, bodies(Object.keys(ResponsesBody.properties))], [2, itemBodies], [1, toolBodies(false)]),
  },
  {
    path: '/v1/responses/input_tokens',
    base: { input: 'Hi' },
    body: mixed([1, bodies(Object.keys(InputTokensBody.properties))], [1, itemBodies]),
  },
  {
    path: '/v1/messages',
    base: { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 2 },
    body: mixed([3, bodies(Object.keys(MessagesBody.properties))], [2, blockBodies], [1, toolBodies(false)]),
  },
  {
    path: '/v1/messages/count_tokens',
    base: { messages: [{ role: 'user', content: 'Hi' }] },
    body: mixed([1, bodies(Object.keys(CountTokensBody.properties))], [1, blockBodies]),
  },
  {
    path: '/tokenize',
    base: {},
    body: bodies([
      'prompt',
      'messages',
      'tools',
      'add_special_tokens',
      'add_generation_prompt',
      'continue_final_message',
      'model',
    ]),
  },
  { path: '/detokenize', base: {}, body: bodies(['tokens', 'model']) },
] as const;

/** vLLM's object for the form of an answer: the grammar in the engine, and wrong requests. */
import t from 'tap';
import type { Grammar } from '../../src/protocol/index.js';
import { build, events, says } from '../fakes/server.js';

const prompt = 'Hi';
const messages = [{ role: 'user', content: prompt }];
const schema = { type: 'object', properties: { a: { type: 'integer' } } };
const json: Grammar = { kind: 'json', schema: JSON.stringify(schema) };
const LARK = 'start: "a" /[0-9]+/';

interface ErrorAnswer {
  error: { message: string; param: string | null; code: string };
}

void t.test('each form becomes the grammar of the answer, on both endpoints', async (t) => {
  const server = await build(t, says('a1'));
  const cases: [object, Grammar | null][] = [
    [{ structured_outputs: { json: schema } }, json],
    [{ structured_outputs: { json: JSON.stringify(schema) } }, json],
    [{ structured_outputs: { json_object: true } }, { kind: 'json', schema: '{"type":"object"}' }],
    [{ structured_outputs: { regex: 'a\\d+' } }, { kind: 'regex', pattern: 'a\\d+' }],
    [{ structured_outputs: { choice: ['a1', 'b'] } }, { kind: 'choice', choices: ['a1', 'b'] }],
    [{ structured_outputs: { grammar: LARK } }, { kind: 'written', grammar: LARK }],
    [{ structured_outputs: { regex: 'a', json: null, disable_any_whitespace: true } }, { kind: 'regex', pattern: 'a' }],
    [{ structured_outputs: null, guided_json: null, guided_choice: [], grammar: '', regex: '' }, null],
  ];
  for (const [fields, grammar] of cases) {
    await t.test(JSON.stringify(fields).slice(0, 90), async (t) => {
      for (const [path, base] of Object.entries({
        '/v1/chat/completions': { messages },
        '/v1/completions': { prompt },
      })) {
        const response = await server.post(path, { ...base, ...fields });
        t.equal(response.status, 200, `${await response.text()} for ${JSON.stringify(fields)}`);
        t.strictSame(server.engine.requests.at(-1)?.grammar, grammar, JSON.stringify(fields));
        t.equal(server.engine.requests.at(-1)?.kind === 'schema', grammar !== null);
      }
    });
  }
});

void t.test('a wrong form is a 400 that names the field', async (t) => {
  const server = await build(t);
  const deep = '['.repeat(200) + ']'.repeat(200);
  const cases: [object, string, RegExp][] = [
    [{ structured_outputs: {} }, 'structured_outputs', /must have one of json, json_object, regex/],
    [{ structured_outputs: { json_object: false } }, 'structured_outputs', /must have one of/],
    [
      { structured_outputs: { regex: 'a', choice: ['b'] } },
      'structured_outputs.choice',
      /combined with structured_outputs\.regex/,
    ],
    [
      { response_format: { type: 'json_object' }, structured_outputs: { regex: 'a' } },
      'structured_outputs.regex',
      /cannot be combined with response_format/,
    ],
    [{ structured_outputs: { regex: '' } }, 'structured_outputs.regex', /./],
    [{ structured_outputs: { regex: 5 } }, 'structured_outputs.regex', /./],
    [{ structured_outputs: { choice: [] } }, 'structured_outputs.choice', /./],
    [{ structured_outputs: { choice: [''] } }, 'structured_outputs.choice[0]', /./],
    [{ structured_outputs: { json: 5 } }, 'structured_outputs.json', /a JSON schema, or its text/],
    [{ structured_outputs: { json: '{"a":' } }, 'structured_outputs.json', /a JSON schema, or its text, got/],
    [{ structured_outputs: { json: `{"enum": ${deep}}` } }, 'structured_outputs.json', /at most 100 deep/],
    [{ structured_outputs: { json: { maxItems: 1e5 } } }, 'structured_outputs.json', /maxItems/],
    [{ structured_outputs: { json: `"${'x'.repeat(40_000)}"` } }, 'structured_outputs.json', /32768 characters/],
    [{ structured_outputs: { choice: 'a' } }, 'structured_outputs.choice', /array/],
    [
      { structured_outputs: { choice: Array.from({ length: 5000 }, (_, i) => `choice ${i}`) } },
      'structured_outputs.choice',
      /in all/,
    ],
    [
      { structured_outputs: { grammar: 'x'.repeat(40_000) } },
      'structured_outputs.grammar',
      /32768 characters, got 40000/,
    ],
    [{ structured_outputs: { regex: '\ud800' } }, 'structured_outputs.regex', /surrogate/],
  ];
  for (const [fields, param, message] of cases) {
    await t.test(JSON.stringify(fields).slice(0, 90), async (t) => {
      const response = await server.post('/v1/chat/completions', { messages, ...fields });
      const { error } = (await response.json()) as ErrorAnswer;
      t.equal(response.status, 400, param);
      t.match(error, { code: 'invalid_value', param, message });
    });
  }
  t.equal(server.engine.requests.length, 0, 'nothing reached the engine');
});

void t.test("other servers' names are a 400 that names the field to use", async (t) => {
  const server = await build(t);
  for (const [field, value, instead] of [
    ['guided_json', schema, 'json'],
    ['guided_regex', 'a', 'regex'],
    ['guided_choice', ['a'], 'choice'],
    ['guided_grammar', LARK, 'grammar'],
  ] as const) {
    const response = await server.post('/v1/chat/completions', { messages, [field]: value });
    const message = `${field} is not supported by this server: use structured_outputs.${instead}.`;
    t.equal(response.status, 400);
    t.match(await response.json(), { error: { code: 'unsupported_parameter', param: field, message } });
  }
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

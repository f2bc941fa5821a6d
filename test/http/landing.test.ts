/** Answers that end early to keep their budget, as a client sees them in every API: report, headers, log. */
import t from 'tap';
import { spelt } from '../fakes/calls.js';
import { namedEvents, build, says } from '../fakes/server.js';

const landed = { at: 4, pressure: 3.25, probability: 0.00041234 };
const report = { trigger: 'budget', at_token: 4, probability: 0.000412 };
const budget = { 'x-latency-budget-ms': '60000' };
const messages = [{ role: 'user', content: 'Where is Paris?' }];
const COMPLETIONS = '/v1/completions';

const completed = { status: 'completed', incomplete_details: null };
const incomplete = { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } };
const choice = (finish_reason: string) => ({ choices: [{ finish_reason }] });
const stop = (stop_reason: string) => ({ stop_reason, stop_sequence: null });

/**
 * A body for each API, a whole answer that is complete, one that its budget ended, and the end of a stream that its
 * budget ended.
 */
const APIS = [
  ['/v1/chat/completions', { messages }, choice('stop'), choice('length'), choice('length')],
  [COMPLETIONS, { prompt: 'Where is Paris?' }, choice('stop'), choice('length'), choice('length')],
  ['/v1/responses', { input: 'Where is Paris?' }, completed, incomplete, { response: incomplete }],
  ['/v1/messages', { messages, max_tokens: 50 }, stop('end_turn'), stop('max_tokens'), { delta: stop('max_tokens') }],
] as const;

void t.test('a forced end has the terms of a length in each API, whole and streamed, and is reported', async (t) => {
  const plan = { exit: 15, reason: 'load', landing: 'grammar', expectedTokens: 20.4 } as const;
  const server = await build(t, says('Paris is here.', { ended: { landed }, plan }), { keepsLog: true });
  for (const [index, [path, body, , end, streamedEnd]] of APIS.entries()) {
    const shown = { exit_layer: 15, reason: 'load', landing: 'grammar' };
    const whole = await server.ask(path, body, budget);
    t.match(whole.body, { ...end, sortie: { outcome: 'landed', met: true, plan: shown, landed: report } }, path);
    t.equal(whole.headers['x-sortie-expected-tokens'], '20', path);
    const line = (await server.logged(2 * index + 1)).at(-1);
    t.match(line, { sortie: { landed: report, plan: shown } });
    const { text, headers } = await server.ask(path, { ...body, stream: true }, budget);
    t.equal(headers['x-sortie-expected-tokens'], '20', path);
    const said: string[] = [];
    const named = namedEvents(text, said).map(({ data }) => data);
    const unnamed = said.filter((data) => data !== '[DONE]').map((data) => JSON.parse(data) as object);
    const last = [...named, ...unnamed].find((data) => JSON.stringify(data).includes('"sortie"'));
    const { sortie } = (path === '/v1/responses' ? (last as { response: object }).response : last) as {
      sortie: object;
    };
    t.match(last, streamedEnd, path);
    t.match(sortie, { landed: report }, path);
  }
  const several = await server.ask(COMPLETIONS, { prompt: 'x', n: 3 }, budget);
  t.equal(several.headers['x-sortie-expected-tokens'], '61', 'of all choices together');
});

void t.test('an end that the model was about to make is complete in the terms of each API', async (t) => {
  const own = { ...landed, probability: 0.4, isOwn: true };
  const server = await build(t, says('Paris is here.', { ended: { landed: own } }));
  for (const [path, body, end] of APIS) {
    const sortie = { outcome: 'landed', met: true, landed: { probability: 0.4 } };
    t.match((await server.ask(path, body, budget)).body, { ...end, sortie }, path);
  }
});

void t.test('an answer cut at its deadline goes back to its last whole sentence; a stream shows all', async (t) => {
  const script = says('Paris is here. It has a long', { end: 'deadline' });
  const server = await build(t, script);
  for (const [path, body, , end] of APIS) {
    const { body: whole, text } = await server.ask(path, body, budget);
    t.match(whole, { ...end, sortie: { outcome: 'landed', met: true, landed: { trigger: 'deadline' } } }, path);
    t.match(text, /"(text|content)":"Paris is here\."/, path);
  }
  const ask = async (more: object = {}) =>
    (await server.ask(COMPLETIONS, { prompt: 'x', logprobs: 0 }, { ...budget, ...more })).body;
  const { usage, choices } = await ask();
  t.equal(usage?.completion_tokens, script().tokens.length, 'usage counts all that was generated');
  t.equal(choices[0]?.logprobs?.tokens.join(''), 'Paris is here.');
  const cut = { choices: [{ text: 'Paris is here. It has a long' }], sortie: { outcome: 'cut', met: false } };
  t.match(await ask({ 'x-budget-on-miss': 'truncate' }), cut, 'as its request asked');
  const sent = await server.chunks(COMPLETIONS, { prompt: 'x' }, budget);
  t.match(sent.at(-1), { choices: [{ finish_reason: 'length' }], sortie: { outcome: 'cut' } });
  server.engine.script = says('Paris is a long', { end: 'deadline' });
  t.match(await ask(), { choices: [{ text: 'Paris is a long' }], sortie: { outcome: 'cut' } }, 'no sentence');
  const code = '```js\nf();\ng(';
  server.engine.script = says(code, { end: 'deadline' });
  const closed = { choices: [{ text: '```js\nf();\n```' }], sortie: { outcome: 'landed', met: true } };
  t.match(await ask(), closed, 'open code');
  server.engine.script = says(code, { end: 'deadline', delay: 1001 });
  const chunks = await server.chunks(COMPLETIONS, { prompt: 'x' }, { 'x-latency-budget-ms': '2000' });
  t.match(chunks.at(-1), { choices: [{ finish_reason: 'length' }], sortie: closed.sortie }, 'a stream waits for lines');
  t.equal(chunks.map(({ choices: [each] }) => each?.text ?? '').join(''), '```js\nf();\n```');
});

void t.test('an answer that has no early end is an error at its deadline; truncate gives what is there', async (t) => {
  const calls = [{ type: 'function', function: { name: 'look', parameters: { type: 'object' } } }];
  for (const [landing, said, path, body] of [
    ['grammar', '{"name": "Par', '/v1/chat/completions', { messages, response_format: { type: 'json_object' } }],
    [
      'grammar',
      spelt('look', '{"a').slice(0, -13),
      '/v1/chat/completions',
      { messages, tools: calls, tool_choice: 'required' },
    ],
    ['exact_length', 'Paris is. It', COMPLETIONS, { prompt: 'x', ignore_eos: true, n: 2 }],
  ] as const) {
    const server = await build(t, says(said, { end: 'deadline', plan: { landing } }));
    const error = { code: 'deadline_exceeded', outcome: 'cut' };
    t.match(await server.ask(path, body, budget), { status: 504, body: { error } }, path);
    const { text } = await server.ask(path, { ...body, stream: true }, budget);
    t.match(text, /data: \{"error":\{[^\n]*"code":"deadline_exceeded"[^\n]*\n\ndata: \[DONE\]\n\n$/, path);
    server.engine.script = says(said, { end: 'deadline', plan: { landing: 'off' } });
    const cut = await server.ask(path, body, { ...budget, 'x-budget-on-miss': 'truncate' });
    t.match(cut, { status: 200, body: { choices: [{ finish_reason: 'length' }], sortie: { outcome: 'cut' } } }, path);
  }
});

void t.test('of several choices the shortest landing is reported, and all that landed are named', async (t) => {
  const ends = [null, { ...landed, at: 9 }, { ...landed, at: 5, pressure: 1 }];
  const server = await build(t, ({ id }) => {
    const end = ends[Number(id.split('-')[1])];
    return { tokens: [5, 6], ...(end != null && { ended: { landed: end } }) };
  });
  const { body } = await server.ask(COMPLETIONS, { prompt: 'x', n: 3 }, budget);
  t.same(body.sortie?.landed, { trigger: 'budget', at_token: 5, probability: 0.000412 });
  // The engine ends the answer before it reads that the gateway cancels it.
  server.engine.script = says('Paris is here', { ended: { landed } });
  const stopped = await server.ask(COMPLETIONS, { prompt: 'x', stop: [' here'] }, budget);
  t.match(stopped.body, { choices: [{ text: 'Paris is' }], sortie: { landed: undefined } }, 'a stop is no landing');
});

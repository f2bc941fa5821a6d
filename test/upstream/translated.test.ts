/** Responses and messages of upstream models: the chat that the upstream gets, and the answer in each API's form. */
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import t, { type Test } from 'tap';
import { answers, begin, chunk, event, say, starts, type Exchange, type UpstreamScript } from '../fakes/upstream.js';
import { both } from './told.js';

/** Both servers, and the clients of both APIs. */
async function withClients(t: Test, script: UpstreamScript) {
  const { there, here } = await both(t, script);
  const options = { apiKey: 'any', maxRetries: 0 };
  return {
    there,
    here,
    openai: new OpenAI({ ...options, baseURL: `${here.url}/v1` }),
    anthropic: new Anthropic({ ...options, baseURL: here.url }),
  };
}

const TOOL = { type: 'object' as const, properties: { city: { type: 'string' } } };
const usage = { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 };
const counts = chunk({}, null, { choices: [], usage });

/** An event whose JSON stands on several lines. */
const onLines = (data: string): string =>
  (data === '[DONE]' ? data : JSON.stringify(JSON.parse(data), null, 1)).replaceAll(/^/gm, 'data: ') + '\n\n';

/** Thoughts, a text and a call, streamed or whole as the request asks. */
const speaks = (exchange: Exchange): void => {
  const call = { index: 0, id: 'call_7', type: 'function', function: { name: 'weather', arguments: '{"city"' } };
  if (exchange.body.stream === true) {
    begin(exchange);
    const parts = [
      chunk({ role: 'assistant', content: '' }),
      chunk({ reasoning_content: 'Well.' }),
      chunk({ content: 'One ' }),
      chunk({ content: 'two.' }),
      chunk({ tool_calls: [call] }),
      chunk({ tool_calls: [{ index: 0, function: { arguments: ':"Paris"}' } }] }),
      chunk({}, 'tool_calls'),
      counts,
      '[DONE]',
    ];
    exchange.response.end(parts.map(onLines).join(''));
    return;
  }
  const whole = { ...call, function: { name: 'weather', arguments: '{"city":"Paris"}' } };
  const message = { role: 'assistant', reasoning_content: 'Well.', content: 'One two.', tool_calls: [whole] };
  const body = { id: 'x', model: 'y', choices: [{ index: 0, message, finish_reason: 'tool_calls' }], usage };
  exchange.response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
};

const budget = { 'X-Latency-Budget-Ms': '60000' };
const sent = { model: 'vendor/big-1', max_tokens: 50, messages: [{ role: 'system', content: 'Be brief.' }, {}] };

// With a budget that no answer needs, and without one.
for (const [headers, way] of [
  [{}, 'without a budget'],
  [budget, 'within its budget'],
] as const)
  for (const stream of [false, true]) {
    void t.test(`a response ${way}, ${stream ? 'streamed' : 'whole'}`, async (t) => {
      const { there, openai } = await withClients(t, speaks);
      const tools = [{ type: 'function' as const, name: 'weather', parameters: TOOL, strict: null }];
      const asked = { model: 'big', instructions: 'Be brief.', input: 'Weather?', max_output_tokens: 50, tools };
      const types: string[] = [];
      let response: OpenAI.Responses.Response | undefined;
      if (stream) {
        for await (const part of await openai.responses.create({ ...asked, stream: true }, { headers })) {
          types.push(part.type);
          if (part.type === 'response.completed') response = part.response;
        }
        t.equal(types[0], 'response.created');
        t.ok(types.includes('response.output_text.delta'));
        t.equal(types.at(-1), 'response.completed');
      } else response = await openai.responses.create(asked, { headers });
      t.match(response, {
        ...{ object: 'response', status: 'completed', model: 'big', max_output_tokens: 50 },
        usage: { input_tokens: 5, output_tokens: 7, total_tokens: 12 },
        output: [
          { type: 'reasoning', content: [{ text: 'Well.' }] },
          { type: 'message', content: [{ type: 'output_text', text: 'One two.' }] },
          { type: 'function_call', call_id: 'call_7', name: 'weather', arguments: '{"city":"Paris"}' },
        ],
        sortie: headers === budget ? { source: 'upstream', met: true } : undefined,
      });
      const called = [{ type: 'function', function: { name: 'weather' } }];
      t.match(there.exchanges[0]?.body, { ...sent, tools: called });
    });
    void t.test(`a message ${way}, ${stream ? 'streamed' : 'whole'}`, async (t) => {
      const { there, anthropic } = await withClients(t, speaks);
      const messages = [{ role: 'user' as const, content: 'Weather?' }];
      const tools = [{ name: 'weather', input_schema: TOOL }];
      const asked = { model: 'big', system: 'Be brief.', max_tokens: 50, messages, tools };
      const message = stream
        ? await anthropic.messages.stream(asked, { headers }).finalMessage()
        : await anthropic.messages.create(asked, { headers });
      t.match(message, {
        ...{ type: 'message', model: 'big', stop_reason: 'tool_use', usage: { input_tokens: 5, output_tokens: 7 } },
        content: [
          { type: 'thinking', thinking: 'Well.' },
          { type: 'text', text: 'One two.' },
          { type: 'tool_use', id: 'toolu_7', name: 'weather', input: { city: 'Paris' } },
        ],
      });
      t.match(there.exchanges[0]?.body, sent);
    });
  }

void t.test('a chat without tools has no field of tools: upstreams reject an empty list', async (t) => {
  const { there, here } = await withClients(t, answers('Yes.'));
  const asked = { model: 'big', input: 'Hi', tools: [], tool_choice: 'auto', parallel_tool_calls: true };
  await (await here.post('/v1/responses', asked)).text();
  for (const field of ['tools', 'tool_choice', 'parallel_tool_calls'])
    t.notOk(field in (there.exchanges[0]?.body ?? {}), field);
});

const stalls: UpstreamScript = (exchange) => starts(exchange, 'One is here. Two');

void t.test('a late answer lands in the form of its API', async (t) => {
  const { openai, anthropic } = await withClients(t, stalls);
  const options = { headers: { 'X-Latency-Budget-Ms': '500' } };
  const response = await openai.responses.create({ model: 'big', input: 'Count.' }, options);
  t.equal(response.output_text, 'One is here.');
  t.equal(response.status, 'incomplete');
  t.match(response, { sortie: { source: 'upstream', outcome: 'landed', landed: { trigger: 'deadline' } } });
  const messages = [{ role: 'user' as const, content: 'Count.' }];
  const message = await anthropic.messages.create({ model: 'big', max_tokens: 50, messages }, options);
  t.match(message, { content: [{ text: 'One is here.' }], stop_reason: 'max_tokens' });
});

void t.test('errors have the form of the API and the status of the upstream', async (t) => {
  const { there, here } = await withClients(t, () => undefined);
  const bodies = {
    '/v1/responses': { model: 'big', input: 'Hi' },
    '/v1/messages': { model: 'big', max_tokens: 9, messages: [{ role: 'user', content: 'Hi' }] },
  };
  for (const [path, body] of Object.entries(bodies))
    for (const stream of [false, true]) {
      const post = async (headers = {}) => {
        const response = await here.post(path, { ...body, stream }, headers);
        return { status: response.status, retry: response.headers.get('retry-after'), json: await response.json() };
      };
      const isOurs = path === '/v1/responses';
      there.script = ({ response }) =>
        response.writeHead(429, { 'retry-after': '7' }).end('{"error":{"message":"full","code":"theirs"}}');
      const full = await post();
      t.match(full, { status: 429, retry: '7', json: { error: { message: 'full' } } });
      if (!isOurs) t.match(full.json, { type: 'error', error: { type: 'rate_limit_error' } });
      there.script = () => undefined;
      const late = await post({ 'x-latency-budget-ms': '200' });
      t.match(late, { status: 504, json: { error: { code: 'deadline_exceeded' } } });
      if (!isOurs) t.match(late.json, { type: 'error', error: { type: 'api_error' } });
    }
});

void t.test('a stream that breaks ends with the error event of its API', async (t) => {
  const { here } = await withClients(t, async (exchange) => {
    begin(exchange);
    await say(exchange, 'One is');
    exchange.response.end(event('{"error":{"message":"overloaded"}}'));
  });
  const response = await here.post('/v1/responses', { model: 'big', input: 'Hi', stream: true });
  t.match(await response.text(), /event: error\n.*overloaded.*event: response.failed\n/s);
  const messages = [{ role: 'user', content: 'Hi' }];
  const message = await here.post('/v1/messages', { model: 'big', max_tokens: 9, messages, stream: true });
  const text = await message.text();
  t.match(text, /event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"overloaded"/);
  t.notMatch(text, 'message_stop');
});

void t.test('a filter of content is told, and a wrong body is rejected with the names of the API', async (t) => {
  const { there, here, openai, anthropic } = await withClients(t, (exchange) => {
    begin(exchange);
    exchange.response.end(event(chunk({ content: 'I' })) + event(chunk({}, 'content_filter')) + event('[DONE]'));
  });
  const options = { headers: budget };
  const messages = [{ role: 'user' as const, content: 'Hi' }];
  const response = await openai.responses.create({ model: 'big', input: 'Hi' }, options);
  t.match(response, { status: 'incomplete', incomplete_details: { reason: 'content_filter' } });
  const message = await anthropic.messages.create({ model: 'big', max_tokens: 9, messages }, options);
  t.equal(message.stop_reason, 'refusal');
  const asked = there.exchanges.length;
  for (const [path, body, param] of [
    ['/v1/responses', { model: 'big', input: 7 }, 'input'],
    ['/v1/responses', { model: 'big', input: 'x', previous_response_id: 'r' }, 'previous_response_id'],
    ['/v1/responses', { model: 'big', input: 'x', top_logprobs: 2 }, 'top_logprobs'],
    ['/v1/messages', { model: 'big', messages }, 'max_tokens'],
  ] as const) {
    const rejected = await here.post(path, body);
    t.match([rejected.status, await rejected.json()], [400, { error: { param } }], path);
  }
  t.equal(there.exchanges.length, asked, 'the upstream is not asked');
});

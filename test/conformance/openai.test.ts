/** The unmodified official client against a listening server. */
import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError, RateLimitError } from 'openai';
import t from 'tap';
import { build, says, tokenizer, type Overrides } from '../fakes/server.js';
import type { FakeEngine } from '../fakes/engine.js';
import { until } from '../support/until.js';

const messages = [{ role: 'user' as const, content: 'What is the capital of France?' }];

async function connect(t: Parameters<typeof build>[0], script?: FakeEngine['script'], overrides?: Overrides) {
  const server = await build(t, script, overrides);
  return { server, client: new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'sesame', maxRetries: 0 }) };
}

void t.test('models', async (t) => {
  const { client } = await connect(t);
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  t.same(ids.slice(0, 2), ['fake', 'fake:10']);
  t.equal((await client.models.retrieve('fake:15')).id, 'fake:15');
});

void t.test('chat, whole: the budget is one more header', async (t) => {
  const { client, server } = await connect(t, says('Paris.'));
  const { data, response } = await client.chat.completions
    .create({ model: 'fake', messages, max_completion_tokens: 20 }, { headers: { 'X-Latency-Budget-Ms': '250' } })
    .withResponse();
  t.equal(data.choices[0]?.message.content, 'Paris.');
  t.equal(data.choices[0]?.finish_reason, 'stop');
  t.equal(response.headers.get('x-exit-layer'), '30');
  t.equal(server.engine.requests[0]?.depth.budget?.totalMs, 250);
});

void t.test('chat, streamed, through the helper that checks the order of events', async (t) => {
  const { client } = await connect(t, says('Paris is nice.'));
  const stream = client.chat.completions.stream({ model: 'fake', messages, stream_options: { include_usage: true } });
  let text = '';
  stream.on('content', (delta) => (text += delta));
  const final = await stream.finalChatCompletion();
  t.equal(text, 'Paris is nice.');
  t.equal(final.choices[0]?.message.content, 'Paris is nice.');
  t.equal(final.usage?.completion_tokens, tokenizer.encode('Paris is nice.', false).length);
});

void t.test('completions, whole and streamed', async (t) => {
  const { client } = await connect(t, says(' Paris.'));
  const whole = await client.completions.create({ model: 'fake', prompt: 'The capital is', logprobs: 2, echo: true });
  t.equal(whole.choices[0]?.text, 'The capital is Paris.');
  t.equal(whole.choices[0]?.logprobs?.tokens?.join(''), 'The capital is Paris.');
  let text = '';
  for await (const chunk of await client.completions.create({ model: 'fake', prompt: ['a'], stream: true })) {
    text += chunk.choices[0]?.text ?? '';
  }
  t.equal(text, ' Paris.');
});

void t.test('log-probabilities of a chat', async (t) => {
  const { client } = await connect(t, says('Paris'));
  const answer = await client.chat.completions.create({ model: 'fake', messages, logprobs: true, top_logprobs: 2 });
  t.equal(answer.choices[0]?.logprobs?.content?.[0]?.top_logprobs.length, 2);
});

void t.test('breaking off a stream cancels its sequence', async (t) => {
  const { client, server } = await connect(t, says('one two three four five', { pace: 20 }));
  for await (const chunk of await client.chat.completions.create({ model: 'fake', messages, stream: true })) {
    if (chunk.choices.length > 0) break;
  }
  await until('idle', () => server.engine.live === 0);
  t.equal(server.engine.cancelled.length, 1);
});

void t.test('errors arrive as the classes of the client', async (t) => {
  const { client } = await connect(t);
  const thrown = (promise: Promise<unknown>): Promise<unknown> =>
    promise.then(
      () => null,
      (error: unknown) => error,
    );
  t.type(await thrown(client.chat.completions.create({ model: 'gpt-9', messages })), NotFoundError);
  const tooHot = await thrown(client.chat.completions.create({ model: 'fake', messages, temperature: 9 }));
  t.type(tooHot, BadRequestError);
  t.match(tooHot, { status: 400, param: 'temperature', code: 'invalid_value', type: 'invalid_request_error' });
  const closed = await connect(t, undefined, { apiKeys: ['other'] });
  t.type(await thrown(closed.client.models.list().then(() => null)), AuthenticationError);
  const full = await connect(t, () => ({ tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } }));
  t.type(await thrown(full.client.chat.completions.create({ model: 'fake', messages, stream: true })), RateLimitError);
});

void t.test('an error mid-stream ends the iteration with that error', async (t) => {
  const { client } = await connect(t, says('one two three', { loseAfter: 2 }));
  const stream = await client.chat.completions.create({ model: 'fake', messages, stream: true });
  let error: unknown = null;
  try {
    for await (const chunk of stream) t.ok(chunk.choices);
  } catch (caught) {
    error = caught;
  }
  t.type(error, APIError);
  t.match(error, { code: 'engine_lost' });
});

void t.test('the client retries a full queue by itself', async (t) => {
  let count = 0;
  const { server } = await connect(t, (request) =>
    ++count === 1
      ? { tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } }
      : { tokens: request.prompt.slice(0, 1) },
  );
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'x' });
  const answer = await client.completions.create({ model: 'fake', prompt: 'Hello' });
  t.equal(answer.choices[0]?.text, 'Hello');
  t.equal(count, 2);
});

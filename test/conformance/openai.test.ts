/** Unmodified clients of chats and completions against the real server, and against a scripted engine for rare errors. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import OpenAI, {
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
  RateLimitError,
} from 'openai';
import t from 'tap';
import { build, says } from '../fakes/server.js';
import { aborted, apiKey, connect, deepest, ENDLESS, modelName, shallowest, thrown } from './helper.js';
import { bothWays, callsTool, COLOR, colors, followsSchema, weather, weatherArguments } from './ai.js';

const server = await connect(t);
const client = new OpenAI({ baseURL: server.baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: 'user' as const, content: 'Name a color.' }];
const chat = { model: modelName, messages, max_tokens: 12, temperature: 0 };
const completion = { model: modelName, prompt: 'The capital of France is', max_tokens: 8, temperature: 0 };

void t.test('chat and completion: streamed text is the same as whole text', async (t) => {
  const whole = (await client.chat.completions.create(chat)).choices[0];
  let text = '';
  for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? '';
  }
  t.equal(text, whole?.message.content);
  const answer = await client.completions.create(completion);
  text = '';
  for await (const chunk of await client.completions.create({ ...completion, stream: true })) {
    text += chunk.choices[0]?.text ?? '';
  }
  t.equal(text, answer.choices[0]?.text);
});

void t.test('a budget and a depth need one more header each', async (t) => {
  const headers = { 'X-Latency-Budget-Ms': '60000', 'X-Exit-Layer': String(shallowest) };
  const { data, response } = await client.chat.completions.create(chat, { headers }).withResponse();
  t.equal(response.headers.get('x-exit-layer'), String(shallowest));
  t.match(data, { sortie: { budget_ms: 60000, met: true, plan: { exit_layer: shallowest } } });
  const pinned = await client.chat.completions.create({ ...chat, model: `${modelName}:${deepest}` }).withResponse();
  t.equal(pinned.response.headers.get('x-exit-layer'), String(deepest));
});

void t.test('an answer follows its schema, and its message fits into the next request unchanged', async (t) => {
  const json_schema = { name: 'answer', strict: true, schema: colors };
  const response_format = { type: 'json_schema' as const, json_schema };
  const { choices } = await client.chat.completions.create({ ...chat, max_completion_tokens: 40, response_format });
  const message = choices[0]?.message;
  if (message === undefined) throw new Error('no choice');
  t.match(JSON.parse(message.content ?? ''), COLOR);
  const messages = [...chat.messages, message, ...chat.messages];
  const next = await client.chat.completions.create({ ...chat, messages });
  t.ok((next.choices[0]?.message.content?.length ?? 0) > 0);
});

void t.test('a forced tool is called with arguments that fit its schema, streamed or not', async (t) => {
  const asked = {
    ...chat,
    max_tokens: 60,
    tools: [{ type: 'function' as const, function: weather }],
    tool_choice: { type: 'function' as const, function: { name: weather.name } },
  };
  const [choice] = (await client.chat.completions.create(asked)).choices;
  const call = choice?.message.tool_calls?.[0];
  if (call?.type !== 'function') throw new Error('no call');
  t.match(choice, { finish_reason: 'tool_calls', message: { content: null } });
  t.equal(call.function.name, weather.name);
  t.match(JSON.parse(call.function.arguments), weatherArguments);
  const final = await client.chat.completions.stream(asked).finalMessage();
  t.match(final.tool_calls, [{ type: 'function', function: call.function }], 'the stream helper joins the parts');
  const messages = [
    ...chat.messages,
    choice?.message ?? [],
    { role: 'tool' as const, tool_call_id: call.id, content: 'sunny' },
  ].flat();
  const next = await client.chat.completions.create({ ...chat, messages, tools: asked.tools, tool_choice: 'none' });
  t.ok((next.choices[0]?.message.content?.length ?? 0) > 0);
});

void t.test('errors arrive as the classes of the client', async (t) => {
  t.type(await thrown(client.chat.completions.create({ ...chat, model: 'gpt-9' })), NotFoundError);
  const hot = await thrown(client.chat.completions.create({ ...chat, temperature: 9 }));
  t.type(hot, BadRequestError);
  t.match(hot, { status: 400, param: 'temperature', code: 'invalid_value', type: 'invalid_request_error' });
  const stranger = new OpenAI({ baseURL: server.baseURL, apiKey: 'wrong', maxRetries: 0 });
  t.type(await thrown(stranger.chat.completions.create(chat)), AuthenticationError);
});

void t.test('an abort ends the call of the client and the sequence in the engine, streamed or not', async (t) => {
  const endless = { ...chat, max_tokens: ENDLESS, ignore_eos: true };
  const error = await aborted(t, server, {
    whole: (signal) => client.chat.completions.create(endless, { signal }),
    stream: () => client.chat.completions.create({ ...endless, stream: true }),
    isText: ({ choices }) => choices.length > 0,
  });
  t.type(error, APIUserAbortError);
});

const fake = { model: 'fake', messages };
const full = { tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } } as const;

void t.test('a full queue is a rate limit, which the client retries by itself', async (t) => {
  let left = 2;
  const { url } = await build(t, (request) => (left-- > 0 ? full : { tokens: request.prompt.slice(0, 1) }));
  const options = { baseURL: `${url}/v1`, apiKey: 'x' };
  const once = new OpenAI({ ...options, maxRetries: 0 });
  t.type(await thrown(once.chat.completions.create({ ...fake, stream: true })), RateLimitError);
  const answer = await new OpenAI(options).completions.create({ model: 'fake', prompt: 'Hello' });
  t.equal(answer.choices[0]?.text, 'Hello');
});

void t.test('an error mid-stream ends the iteration with that error', async (t) => {
  const { url } = await build(t, says('one two three', { loseAfter: 2 }));
  const other = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'x', maxRetries: 0 });
  const error = await thrown(other.chat.completions.stream(fake).finalMessage());
  t.type(error, APIError);
  t.match(error, { code: 'engine_lost' });
});

void t.test('AI SDK: whole and streamed text, an output with a schema, a tool with its result', async (t) => {
  const options = { name: 'sortie', baseURL: server.baseURL, apiKey, includeUsage: true };
  const sortie = createOpenAICompatible({ ...options, supportsStructuredOutputs: true });
  for (const model of [sortie(modelName), sortie.completionModel(modelName)]) await bothWays(t, model);
  await followsSchema(t, sortie(modelName));
  await callsTool(t, sortie(modelName));
});

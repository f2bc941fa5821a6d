/** Unmodified clients of Anthropic's messages against the real server. */
import { createAnthropic } from '@ai-sdk/anthropic';
import Anthropic, {
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  NotFoundError,
} from '@anthropic-ai/sdk';
import { generateText } from 'ai';
import t from 'tap';
import { bothWays, callsTool, followsSchema, weather, weatherArguments } from './ai.js';
import { build, says } from '../fakes/server.js';
import { aborted, apiKey, connect, ENDLESS, modelName, shallowest, thrown } from './helper.js';

const server = await connect(t);
const origin = new URL(server.baseURL).origin;
const client = new Anthropic({ baseURL: origin, apiKey, maxRetries: 0 });
const messages = [{ role: 'user' as const, content: 'Name a color.' }];
const sampling = { temperature: 0 };
const asked = { model: modelName, max_tokens: 12, messages, ...sampling };
const weatherTool: Anthropic.Tool = {
  name: weather.name,
  description: weather.description,
  input_schema: { ...weather.parameters, type: 'object' },
};

const textOf = ({ content }: Anthropic.Message): string =>
  content.map((block) => (block.type === 'text' ? block.text : '')).join('');

void t.test('SDK: create, iterated events and the stream helper have the same text', async (t) => {
  const whole = await client.messages.create(asked);
  const text = textOf(whole);
  t.ok(text.length > 0);
  t.match(whole.stop_reason, /^(end_turn|max_tokens)$/);
  let joined = '';
  for await (const event of await client.messages.create({ ...asked, stream: true })) {
    if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') joined += event.delta.text;
  }
  t.equal(joined, text);
  const final = await client.messages.stream(asked).finalMessage();
  t.equal(textOf(final), text);
  t.equal(final.stop_reason, whole.stop_reason);
  t.equal(final.usage.output_tokens, whole.usage.output_tokens);
  const { input_tokens: counted } = await client.messages.countTokens({ model: modelName, messages });
  const { input_tokens: input, cache_read_input_tokens: cached } = final.usage;
  t.equal(input + (cached ?? 0), counted, 'the usage of the stream has the counted tokens');
});

void t.test('SDK: system blocks, a stop sequence, and the budget as one more header', async (t) => {
  const headers = { 'X-Latency-Budget-Ms': '60000', 'X-Exit-Layer': String(shallowest) };
  const system = [{ type: 'text' as const, text: 'Be brief.' }];
  const { data, response, request_id } = await client.messages
    .create({ ...asked, system, stop_sequences: ['e'] }, { headers })
    .withResponse();
  t.equal(response.headers.get('x-exit-layer'), String(shallowest));
  t.equal(request_id, response.headers.get('x-request-id'));
  t.match(data, { sortie: { budget_ms: 60000, met: true }, stop_reason: 'stop_sequence', stop_sequence: 'e' });
});

void t.test('SDK: a forced tool, its result and the next answer; the streamed call is equal', async (t) => {
  const call = { ...asked, max_tokens: 60, tools: [weatherTool], tool_choice: { type: 'any' as const } };
  const { content, stop_reason } = await client.messages.create(call);
  t.equal(stop_reason, 'tool_use');
  const [use] = content;
  if (use?.type !== 'tool_use') throw new Error('no call');
  t.match(use.input, weatherArguments);
  const final = await client.messages.stream(call).finalMessage();
  t.match(final.content[0], { type: 'tool_use', input: use.input });
  const result = { type: 'tool_result' as const, tool_use_id: use.id, content: 'sunny' };
  const turns = [...messages, { role: 'assistant' as const, content }, { role: 'user' as const, content: [result] }];
  const next = await client.messages.create({
    ...asked,
    messages: turns,
    tools: [weatherTool],
    tool_choice: { type: 'none' },
  });
  t.ok(textOf(next).length > 0);
});

void t.test('SDK: errors arrive as the classes of the client; an abort stops the sequence', async (t) => {
  t.type(await thrown(client.messages.create({ ...asked, model: 'claude' })), NotFoundError);
  const tooHot = { ...asked, temperature: 9 };
  const hot = await thrown(client.messages.create(tooHot));
  t.type(hot, BadRequestError);
  t.match(hot, { type: 'invalid_request_error', message: /temperature/, requestID: /^\S+$/ });
  const stranger = new Anthropic({ baseURL: origin, apiKey: 'wrong', maxRetries: 0 });
  t.type(await thrown(stranger.messages.create(asked)), AuthenticationError);
  const endless = { ...asked, max_tokens: ENDLESS, ignore_eos: true };
  const error = await aborted(t, server, {
    whole: (signal) => client.messages.create(endless, { signal }),
    stream: () => client.messages.create({ ...endless, stream: true }),
    isText: ({ type }) => type === 'content_block_delta',
  });
  t.type(error, APIUserAbortError);
});

void t.test('SDK: a failure in the middle of a stream is thrown with its type', async (t) => {
  const scripted = await build(t, says('one two three', { loseAfter: 2 }));
  const other = new Anthropic({ baseURL: scripted.url, apiKey: 'x', maxRetries: 0 });
  const error = await thrown(other.messages.stream({ ...asked, model: 'fake' }).finalMessage());
  t.type(error, APIError);
  t.match(error, { type: 'overloaded_error' });
});

const anthropic = createAnthropic({ baseURL: server.baseURL, apiKey });

void t.test('AI SDK: text, the default of max_tokens, an output with a schema, a tool with its result', async (t) => {
  const model = anthropic(modelName);
  await bothWays(t, model);
  await followsSchema(t, model);
  await callsTool(t, model);
  const unlimited = { prompt: 'Name a color.', temperature: 0, maxRetries: 0 };
  const free = await generateText({ model, ...unlimited, stopSequences: ['.'] });
  t.equal(free.finishReason, 'stop');
});

/** Unmodified clients of OpenAI's responses against the real server. */
import { createOpenAI } from '@ai-sdk/openai';
import OpenAI from 'openai';
import t from 'tap';
import { bothWays, callsTool, followsSchema, COLOR, colors, weather, weatherArguments } from './ai.js';
import { apiKey, connect, modelName } from './helper.js';

// Tracing would use the network, which no test here may.
process.env.LANGSMITH_TRACING = 'false';
const server = await connect(t);
const client = new OpenAI({ baseURL: server.baseURL, apiKey, maxRetries: 0 });
const input = 'Name a color.';
const asked = { model: modelName, input, max_output_tokens: 12, temperature: 0 };
const weatherTool = { type: 'function' as const, ...weather, strict: true };

void t.test('openai-node: create, iterated events and the stream helper have the same text', async (t) => {
  const whole = await client.responses.create(asked);
  t.ok(whole.output_text.length > 0);
  t.match(whole, { object: 'response', usage: { input_tokens: Number, output_tokens: Number } });
  const counted = await client.responses.inputTokens.count({ model: modelName, input });
  t.match(counted, { object: 'response.input_tokens', input_tokens: whole.usage?.input_tokens });
  let text = '';
  for await (const event of await client.responses.create({ ...asked, stream: true })) {
    if (event.type === 'response.output_text.delta') text += event.delta;
  }
  t.equal(text, whole.output_text);
  const stream = client.responses.stream(asked);
  let snapshot = '';
  stream.on('response.output_text.delta', (event) => (snapshot = event.snapshot));
  const final = await stream.finalResponse();
  t.equal(final.output_text, whole.output_text);
  t.equal(snapshot, whole.output_text);
  t.match(final.usage, { output_tokens: whole.usage?.output_tokens });
});

void t.test('openai-node: a text format is parsed; the output fits into the next input unchanged', async (t) => {
  const format = { type: 'json_schema' as const, name: 'answer', strict: true, schema: colors };
  const first = await client.responses.parse({ ...asked, max_output_tokens: 40, text: { format } });
  t.match(first.output_parsed, COLOR);
  const turns = [
    { role: 'user' as const, content: input },
    ...first.output,
    { role: 'user' as const, content: 'Why?' },
  ];
  const next = await client.responses.create({ ...asked, input: turns as OpenAI.Responses.ResponseInput });
  t.ok(next.output_text.length > 0);
});

void t.test('openai-node: a call, its result and the next answer; the streamed call is equal', async (t) => {
  const call = { ...asked, max_output_tokens: 60, tools: [weatherTool], tool_choice: 'required' as const };
  const { output } = await client.responses.create(call);
  const [item] = output;
  if (item?.type !== 'function_call') throw new Error('no call');
  t.match(JSON.parse(item.arguments), weatherArguments);
  const final = await client.responses.stream(call).finalResponse();
  t.match(final.output[0], { type: 'function_call', arguments: item.arguments, parsed_arguments: weatherArguments });
  const result = { type: 'function_call_output' as const, call_id: item.call_id, output: 'sunny' };
  const turns = [{ role: 'user' as const, content: input }, ...output, result];
  const next = { ...asked, input: turns as OpenAI.Responses.ResponseInput, tools: [weatherTool] };
  t.ok((await client.responses.create({ ...next, tool_choice: 'none' })).output_text.length > 0);
});

const openai = createOpenAI({ baseURL: server.baseURL, apiKey });

void t.test('AI SDK: whole and streamed text, an output with a schema, a tool with its result', async (t) => {
  const model = openai(modelName);
  t.match(model.provider, 'responses');
  await bothWays(t, model);
  await followsSchema(t, model);
  await callsTool(t, model);
});

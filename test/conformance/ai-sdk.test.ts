/** The unmodified Vercel AI SDK against the real server. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, Output, stepCountIs, streamText } from 'ai';
import t from 'tap';
import { bothWays, callsTool, colorSchema, followsSchema, greedy, sunny, COLOR, weatherArguments } from './ai.js';
import { apiKey, connect, deepest, modelName, shallowest } from './helper.js';

const server = await connect(t);
const sortie = createOpenAICompatible({ name: 'sortie', baseURL: server.baseURL, apiKey, includeUsage: true });
const chat = sortie(modelName);
const completion = sortie.completionModel(modelName);
// Version 7 of the SDK keeps a response body only on request.
const keepsBody = { include: { responseBody: true } };

void t.test('chat and completion: streamed text is the same as whole text', async (t) => {
  for (const model of [chat, completion]) await bothWays(t, model);
});

void t.test('a budget and a depth need one more header each', async (t) => {
  const headers = { 'X-Latency-Budget-Ms': '60000' };
  const free = await generateText({ model: chat, ...greedy, ...keepsBody, headers });
  t.match((free.response.body as { sortie: object }).sortie, { budget_ms: 60000, met: true });
  const pinned = await generateText({ model: chat, ...greedy, headers: { 'X-Exit-Layer': String(shallowest) } });
  t.equal(pinned.response.headers?.['x-exit-layer'], String(shallowest));
  const deep = await generateText({ model: sortie(`${modelName}:${deepest}`), ...greedy });
  t.equal(deep.response.headers?.['x-exit-layer'], String(deepest));
});

const strict = createOpenAICompatible({
  name: 'sortie',
  baseURL: server.baseURL,
  apiKey,
  supportsStructuredOutputs: true,
});

void t.test('an output with a schema is an object that fits it', (t) => followsSchema(t, strict(modelName)));

void t.test('tools beside an output: each step is calls or the object, whole and streamed', async (t) => {
  const asked = {
    ...greedy,
    model: strict(modelName),
    tools: { get_weather: sunny },
    output: Output.object({ schema: colorSchema }),
    maxOutputTokens: 100,
  };
  // A small model seldom decides to call or to stop calling. So the first step must call, and the third one must not.
  const choices = ['required', 'auto', 'none'] as const;
  const { steps, output } = await generateText({
    ...asked,
    stopWhen: stepCountIs(3),
    prepareStep: ({ stepNumber }) => ({ toolChoice: choices[stepNumber] ?? 'none' }),
  });
  t.equal(steps[0]?.finishReason, 'tool-calls');
  for (const { toolCalls } of steps) for (const { input } of toolCalls) t.match(input, weatherArguments);
  t.match(output, COLOR);
  const streamed = streamText({ ...asked, toolChoice: 'auto' });
  const [call] = await streamed.toolCalls;
  if (call === undefined) t.match(JSON.parse(await streamed.text), COLOR);
  else t.match(call.input, weatherArguments);
});

void t.test('a tool is called and run, and the next step gets its result', (t) => callsTool(t, chat));

/** AI SDK asks each of its kinds of models for texts, objects and tools, whole and streamed. */
import { generateText, jsonSchema, type LanguageModel, Output, stepCountIs, streamText, tool } from 'ai';
import type { Test } from 'tap';

/** A function that any client can offer. Its schema keeps the arguments short. */
export const weather = {
  name: 'get_weather',
  description: 'Weather of a city.',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', minLength: 1, maxLength: 8 }, unit: { enum: ['C', 'F'] } },
    required: ['city', 'unit'],
    additionalProperties: false,
  },
};

/** Patterns of its arguments. */
export const weatherArguments = { city: /^.{1,8}$/su, unit: /^[CF]$/ };

/** A schema of two possible objects, and the pattern of both. */
export const colors = {
  type: 'object',
  properties: { color: { enum: ['red', 'blue'] } },
  required: ['color'],
  additionalProperties: false,
};
export const COLOR = { color: /^(red|blue)$/ };

export const greedy = { prompt: 'Name a color.', maxOutputTokens: 12, temperature: 0, maxRetries: 0 };

export const colorSchema = jsonSchema<{ color: string }>(colors as object);
const inputSchema = jsonSchema<{ city: string; unit: string }>(weather.parameters as object);
export const sunny = tool({ description: weather.description, inputSchema, execute: () => 'sunny' });

/** Checks that both ways give the same text, usage and reason of the end. */
export async function bothWays(t: Test, model: LanguageModel): Promise<void> {
  const asked = { model, ...greedy };
  const whole = await generateText(asked);
  t.ok(whole.text.length > 0);
  t.ok((whole.usage.outputTokens ?? 0) > 0, 'usage');
  t.match(whole.finishReason, /^(stop|length)$/);
  const streamed = streamText(asked);
  t.equal(await streamed.text, whole.text);
  t.equal((await streamed.usage).outputTokens, whole.usage.outputTokens, 'usage of a stream');
  t.equal(await streamed.finishReason, whole.finishReason);
}

/** Checks that an output with a schema is an object that fits it. */
export async function followsSchema(t: Test, model: LanguageModel): Promise<void> {
  const output = Output.object({ schema: colorSchema });
  t.match((await generateText({ model, ...greedy, output, maxOutputTokens: 40 })).output, COLOR);
}

/** Checks that a tool is called and run, that the next step gets its result, and that the streamed call is equal. */
export async function callsTool(t: Test, model: LanguageModel): Promise<void> {
  const tools = { get_weather: sunny };
  const options = { ...greedy, model, tools, toolChoice: 'required' as const, maxOutputTokens: 60 };
  const { steps } = await generateText({ ...options, stopWhen: stepCountIs(2) });
  t.equal(steps.length, 2);
  t.equal(steps[0]?.finishReason, 'tool-calls');
  t.match(steps[0]?.toolResults, [{ toolName: 'get_weather', output: 'sunny' }]);
  for (const { toolCalls } of steps) for (const { input } of toolCalls) t.match(input, weatherArguments);
  const streamed = streamText(options);
  const [call] = await streamed.toolCalls;
  t.strictSame(call?.input, steps[0]?.toolCalls[0]?.input);
  t.equal(await streamed.finishReason, 'tool-calls');
}

/** The unmodified LangChain.js against the real server. */
import { type AIMessageChunk } from '@langchain/core/messages';
import { ChatOpenAI } from '@langchain/openai';
import t from 'tap';
import { apiKey, connect, modelName, shallowest } from './helper.js';
import { COLOR, colors, weather, weatherArguments } from './ai.js';

// Tracing would use the network, which no test here may.
process.env.LANGSMITH_TRACING = 'false';
const server = await connect(t);
const prompt = 'Name a color.';

function options(headers: Record<string, string> = {}, more: object = {}) {
  const configuration = { baseURL: server.baseURL, defaultHeaders: headers };
  return { model: modelName, apiKey, maxTokens: 12, temperature: 0, maxRetries: 0, configuration, ...more };
}

async function joined<T>(stream: AsyncIterable<T>, textOf: (chunk: T) => string): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += textOf(chunk);
  return text;
}

void t.test('chat: streamed text is the same as whole text', async (t) => {
  const llm = new ChatOpenAI(options());
  const whole = await llm.invoke(prompt);
  t.ok(whole.text.length > 0);
  t.match(whole, { usage_metadata: { input_tokens: Number, output_tokens: Number } }, 'usage');
  t.match(whole.response_metadata.finish_reason, /^(stop|length)$/);
  t.equal(await joined(await llm.stream(prompt), ({ text }) => text), whole.text);
});

void t.test('budget and depth: default headers, and headers of one call', async (t) => {
  const raw = async (llm: ChatOpenAI, headers?: Record<string, string>): Promise<unknown> => {
    const { additional_kwargs } = await llm.invoke(prompt, headers === undefined ? {} : { options: { headers } });
    return (additional_kwargs as { __raw_response?: { sortie?: unknown } }).__raw_response?.sortie;
  };
  const includeRawResponse = { __includeRawResponse: true };
  const budget = new ChatOpenAI(options({ 'X-Latency-Budget-Ms': '60000' }, includeRawResponse));
  t.match(await raw(budget), { budget_ms: 60000, met: true });
  const plain = new ChatOpenAI(options({}, includeRawResponse));
  t.match(await raw(plain, { 'X-Exit-Layer': String(shallowest) }), { plan: { exit_layer: shallowest } });
});

void t.test('withStructuredOutput returns an object that fits its schema', async (t) => {
  const schema = { title: 'answer', ...colors };
  const llm = new ChatOpenAI(options({}, { maxTokens: 40 })).withStructuredOutput(schema, { method: 'jsonSchema' });
  t.match(await llm.invoke(prompt), COLOR);
});

void t.test('bindTools: calls arrive as tool_calls; the streamed ones are equal', async (t) => {
  const tools = [{ type: 'function' as const, function: weather }];
  const llm = new ChatOpenAI(options({}, { maxTokens: 60 })).bindTools(tools, { tool_choice: 'required' });
  const { tool_calls: calls = [] } = await llm.invoke(prompt);
  t.match(calls[0], { name: weather.name, args: weatherArguments });
  let whole: AIMessageChunk | null = null;
  for await (const chunk of await llm.stream(prompt)) whole = whole === null ? chunk : whole.concat(chunk);
  t.strictSame(
    whole?.tool_calls?.map(({ args }) => args),
    calls.map(({ args }) => args),
  );
});

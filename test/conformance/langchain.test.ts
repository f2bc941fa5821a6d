/** The unmodified LangChain.js against the real server. */
import { type AIMessageChunk } from '@langchain/core/messages';
import { ChatOpenAI } from '@langchain/openai';
import t from 'tap';
import { apiKey, connect, modelName } from './helper.js';
import { COLOR, colors, weather, weatherArguments } from './ai.js';

// Tracing would use the network, which no test here may.
process.env.LANGSMITH_TRACING = 'false';
const server = await connect(t);
const prompt = 'Name a color.';

function client(maxTokens = 12): ChatOpenAI {
  const configuration = { baseURL: server.baseURL };
  return new ChatOpenAI({ model: modelName, apiKey, maxTokens, temperature: 0, maxRetries: 0, configuration });
}

void t.test('chat: streamed text is the same as whole text', async (t) => {
  const llm = client();
  const whole = await llm.invoke(prompt);
  t.ok(whole.text.length > 0);
  t.match(whole, { usage_metadata: { input_tokens: Number, output_tokens: Number } }, 'usage');
  t.match(whole.response_metadata.finish_reason, /^(stop|length)$/);
  let text = '';
  for await (const chunk of await llm.stream(prompt)) text += chunk.text;
  t.equal(text, whole.text);
});

void t.test('withStructuredOutput returns an object that fits its schema', async (t) => {
  const schema = { title: 'answer', ...colors };
  const llm = client(40).withStructuredOutput(schema, { method: 'jsonSchema' });
  t.match(await llm.invoke(prompt), COLOR);
});

void t.test('bindTools: calls arrive as tool_calls; the streamed ones are equal', async (t) => {
  const tools = [{ type: 'function' as const, function: weather }];
  const llm = client(60).bindTools(tools, { tool_choice: 'required' });
  const { tool_calls: calls = [] } = await llm.invoke(prompt);
  t.match(calls[0], { name: weather.name, args: weatherArguments });
  let whole: AIMessageChunk | null = null;
  for await (const chunk of await llm.stream(prompt)) whole = whole === null ? chunk : whole.concat(chunk);
  t.strictSame(
    whole?.tool_calls?.map(({ args }) => args),
    calls.map(({ args }) => args),
  );
});

/** The unmodified LangChain.js against the real server. */
import { HumanMessage, ToolMessage, type AIMessageChunk } from '@langchain/core/messages';
import { ChatOpenAI, OpenAI } from '@langchain/openai';
import t from 'tap';
import { apiKey, connect, ENDLESS, modelName, shallowest } from './helper.js';
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

void t.test('completion: streamed text is the same as whole text', async (t) => {
  const llm = new OpenAI(options());
  const whole = await llm.invoke('The capital of France is');
  t.ok(whole.length > 0);
  t.equal(await joined(await llm.stream('The capital of France is'), (text) => text), whole);
});

void t.test('a batch of prompts', async (t) => {
  const llm = new OpenAI(options({}, { batchSize: 2 }));
  const { generations } = await llm.generate(['One, two,', 'Red, green,']);
  t.equal(generations.length, 2);
  t.ok(generations.every(([first]) => (first?.text.length ?? 0) > 0));
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

void t.test('the body fields go through modelKwargs', async (t) => {
  const modelKwargs = { sortie: { exit_layer: shallowest } };
  const llm = new ChatOpenAI(options({}, { modelKwargs, __includeRawResponse: true }));
  const { additional_kwargs } = await llm.invoke(prompt);
  t.match(additional_kwargs, { __raw_response: { sortie: { plan: { exit_layer: shallowest } } } });
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

void t.test("an agent's turns: tools and a response format together, until the answer fits the schema", async (t) => {
  const response_format = {
    type: 'json_schema' as const,
    json_schema: { name: 'answer', schema: colors, strict: true },
  };
  const tools = [{ type: 'function' as const, function: { ...weather, strict: true } }];
  const llm = new ChatOpenAI(options({}, { maxTokens: 100 }));
  const turn = (tool_choice: 'required' | 'auto' | 'none') => llm.bindTools(tools, { response_format, tool_choice });
  const asked = new HumanMessage(prompt);
  const called = await turn('required').invoke([asked]);
  const { tool_calls: calls = [] } = called;
  t.match(calls[0], { name: weather.name, args: weatherArguments });
  const results = calls.map(({ id = '' }) => new ToolMessage({ content: 'sunny', tool_call_id: id }));
  const history = [asked, called, ...results];
  const free = await turn('auto').invoke(history);
  if ((free.tool_calls ?? []).length > 0) t.match(free.tool_calls?.[0]?.args, weatherArguments);
  else t.match(JSON.parse(free.text), COLOR);
  const text = await joined(await turn('none').stream(history), (chunk) => chunk.text);
  t.match(JSON.parse(text), COLOR);
});

void t.test('errors keep status and parameter', async (t) => {
  const thrown = (llm: ChatOpenAI): Promise<unknown> => llm.invoke(prompt).catch((error: unknown) => error);
  t.match(await thrown(new ChatOpenAI(options({}, { model: 'gpt-9' }))), { status: 404, code: 'model_not_found' });
  t.match(await thrown(new ChatOpenAI(options({}, { temperature: 9 }))), { status: 400, param: 'temperature' });
  t.match(await thrown(new ChatOpenAI(options({}, { apiKey: 'wrong' }))), { status: 401, code: 'invalid_api_key' });
});

void t.test('an abort ends the stream of the client and the sequence in the engine', async (t) => {
  const before = await server.idle();
  const llm = new ChatOpenAI(options({}, { maxTokens: ENDLESS, modelKwargs: { ignore_eos: true } }));
  const abort = new AbortController();
  let chunks = 0;
  const reading = async (): Promise<void> => {
    for await (const chunk of await llm.stream(prompt, { signal: abort.signal })) {
      if (chunk.text !== '' && ++chunks === 3) abort.abort();
    }
  };
  await t.rejects(reading(), 'the iteration ends with the abort');
  t.ok(chunks >= 3);
  t.ok((await server.idle()) - before < ENDLESS, 'the sequence was cancelled');
});

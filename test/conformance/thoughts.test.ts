/** Unmodified clients read the thoughts of a model: a scripted engine thinks, and the gateway is the real one. */
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import Anthropic from '@anthropic-ai/sdk';
import { generateText, streamText } from 'ai';
import OpenAI from 'openai';
import t from 'tap';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { build } from '../fakes/calls.js';
import { says } from '../fakes/server.js';

const template =
  "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if enable_thinking is false %}{{ '</think>' }}{% endif %}";
const server = await build(t, says('<think>\nFrance, so Paris.\n</think>\n\nIt is Paris.'), {
  model: { chat: new ChatTemplate(template, {}) },
});
const baseURL = `${server.url}/v1`;
const apiKey = 'unused';
const prompt = 'What is the capital of France?';
const [thought, text] = ['France, so Paris.', 'It is Paris.'];

void t.test('AI SDK: chats', async (t) => {
  const model = createOpenAICompatible({ name: 'sortie', baseURL, apiKey })('fake');
  t.match(await generateText({ model, prompt }), { reasoningText: thought, text });
  const streamed = streamText({ model, prompt });
  t.equal(await streamed.reasoningText, thought);
  t.equal(await streamed.text, text);
});

void t.test('AI SDK: responses keep their text', async (t) => {
  const model = createOpenAI({ baseURL, apiKey })('fake');
  t.match(await generateText({ model, prompt }), { text });
  t.equal(await streamText({ model, prompt }).text, text);
});

void t.test('AI SDK: messages', async (t) => {
  const model = createAnthropic({ baseURL, apiKey })('fake');
  const providerOptions = { anthropic: { thinking: { type: 'enabled', budgetTokens: 1024 } } };
  t.match(await generateText({ model, prompt, providerOptions, maxOutputTokens: 50 }), {
    reasoningText: thought,
    text,
  });
  const streamed = streamText({ model, prompt, providerOptions, maxOutputTokens: 50 });
  t.equal(await streamed.reasoningText, thought);
  t.equal(await streamed.text, text);
});

void t.test("OpenAI's client: responses", async (t) => {
  const client = new OpenAI({ baseURL, apiKey });
  const events = await client.responses.create({ model: 'fake', input: prompt, stream: true });
  let [said, thoughts] = ['', ''];
  for await (const event of events) {
    if (event.type === 'response.output_text.delta') said += event.delta;
    if (event.type === 'response.reasoning_text.delta') thoughts += event.delta;
  }
  t.same([thoughts, said], [thought, text]);
  const whole = await client.responses.create({ model: 'fake', input: prompt, reasoning: { effort: 'low' } });
  t.match(whole, { output_text: text, output: [{ type: 'reasoning', content: [{ text: thought }] }, {}] });
});

void t.test("Anthropic's client: messages", async (t) => {
  const client = new Anthropic({ baseURL: server.url, apiKey });
  const message = await client.messages
    .stream({
      ...{ model: 'fake', max_tokens: 2000, messages: [{ role: 'user', content: prompt }] },
      thinking: { type: 'enabled', budget_tokens: 1024 },
    })
    .finalMessage();
  t.match(message.content, [
    { type: 'thinking', thinking: thought },
    { type: 'text', text },
  ]);
});

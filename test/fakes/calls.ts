/** Bodies and tool calls for HTTP tests: their text, a server with room for the tools, and a chat that holds two calls. */
import { READY } from './engine.js';
import { build as buildSmall } from './server.js';

const messages = [{ role: 'user', content: 'Hi' }];
/** The least body of each endpoint that generates. */
export const BODIES = {
  '/v1/completions': { prompt: 'Hi' },
  '/v1/chat/completions': { messages },
  '/v1/responses': { input: 'Hi' },
  '/v1/messages': { messages, max_tokens: 100 },
} as const;

/** A bias for each of `count` tokens. */
export const biased = (count: number): Record<string, number> =>
  Object.fromEntries(Array.from({ length: count }, (_, id) => [id, 1]));

/** A call as the model writes it. */
export const spelt = (name: string, args: string): string =>
  `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`;

/** Descriptions of tools need a longer context. */
export const build: typeof buildSmall = async (...args) => {
  const server = await buildSmall(...args);
  server.engine.ready = { ...READY, maxLength: 2048 };
  return server;
};

/** The chat of a question with two calls. @param results of the calls */
export const chatOfCalls = (results: readonly [string, string]): object[] => [
  { role: 'system', content: 'Be brief.\n\nUse tools.' },
  { role: 'user', content: 'Weather?' },
  {
    role: 'assistant',
    content: 'I look.',
    tool_calls: ['Paris', 'Oslo'].map((city, index) => ({
      id: 'ab'[index],
      type: 'function',
      function: { name: 'get_weather', arguments: `{"city":"${city}"}` },
    })),
  },
  { role: 'tool', tool_call_id: 'a', content: results[0] },
  { role: 'tool', tool_call_id: 'b', content: results[1] },
];

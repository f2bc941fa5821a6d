/** The official client through a proxy before two replicas: chat, streams, tools, errors, budgets, retries, prefixes. */
import OpenAI, { APIError } from 'openai';
import type { Test } from 'tap';
import { until } from '../support/until.js';
import type { Replica } from '../deploy/pool.js';
import { deepest, shallowest } from '../conformance/helper.js';
import { weather, weatherArguments } from '../conformance/weather.js';

export interface Fleet {
  /** With `/v1`. */
  readonly baseURL: string;
  readonly model: string;
  /** Absent: the proxy asks for none. */
  readonly apiKey?: string;
  readonly replicas: readonly [Replica, Replica];
  /** The name of an answer's header behind this proxy. */
  readonly headerOf: (name: string) => string;
  /** A rejected budget behind this proxy: its status, its code, and the attempts at each replica, the fewest first. */
  readonly rejection: { readonly status: number; readonly code: unknown; readonly attempts: readonly number[] };
}

const clientOf = ({ baseURL, apiKey = 'none' }: Fleet): OpenAI =>
  new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });

const chatOf = ({ model }: Fleet) => ({
  ...{ model, max_completion_tokens: 8, temperature: 0 },
  messages: [{ role: 'user' as const, content: 'Name a color.' }],
});

let calls = 0;

/**
 * Calls with a new request id, and waits for the logs.
 * @param count least number of requests that reach a replica
 * @returns the statuses of the requests at each replica
 */
async function sentBy(
  { replicas }: Fleet,
  count: number,
  call: (headers: Record<string, string>) => Promise<unknown>,
): Promise<unknown[][]> {
  const id = `fleet-${calls++}`;
  const sent = (): unknown[][] =>
    replicas.map((each) => each.requests().flatMap(({ reqId, status }) => (reqId === id ? [status] : [])));
  await call({ 'X-Request-Id': id });
  await until('logged', async () => sent().flat().length >= count);
  return sent();
}

export async function testClients(t: Test, fleet: Fleet): Promise<void> {
  const { headerOf } = fleet;
  const [client, chat] = [clientOf(fleet), chatOf(fleet)];

  await t.test('chat: streamed text is the same as whole text', async (t) => {
    const whole = (await client.chat.completions.create(chat)).choices[0];
    let [text, chunks] = ['', 0];
    for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
      chunks++;
    }
    t.equal(text, whole?.message.content);
    t.ok(chunks > 2, `${chunks} chunks`);
  });

  await t.test('a stream passes as it comes', async (t) => {
    const long = { ...chat, max_completion_tokens: 60, stream: true as const, ignore_eos: true };
    const start = performance.now();
    let first: number | undefined;
    for await (const chunk of await client.chat.completions.create(long))
      if (chunk.choices[0]?.delta.content) first ??= performance.now() - start;
    const whole = performance.now() - start;
    t.ok(first !== undefined && first < 0.7 * whole, `first text after ${first} of ${whole} ms`);
  });

  await t.test('a tool call', async (t) => {
    const { choices } = await client.chat.completions.create({
      ...{ ...chat, max_completion_tokens: 60, tools: [{ type: 'function', function: weather }] },
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
    });
    const [call] = choices[0]?.message.tool_calls ?? [];
    t.match(call?.type === 'function' ? JSON.parse(call.function.arguments) : null, weatherArguments);
  });

  await t.test('an error keeps its status, code and parameter', async (t) => {
    const error: unknown = await client.chat.completions.create({ ...chat, temperature: -1 }).catch((e: unknown) => e);
    t.ok(error instanceof APIError);
    t.match(error, { status: 400 });
    t.match((error as APIError).message, /temperature/);
  });

  await t.test('budget and depth reach the replica, and the headers of the answer the client', async (t) => {
    const headers = { 'X-Latency-Budget-Ms': '60000', 'X-Max-Exit-Layer': String(shallowest) };
    const { data, response } = await client.chat.completions.create(chat, { headers }).withResponse();
    t.match(data, { sortie: { budget_ms: 60000, plan: { exit_layer: shallowest } } });
    t.equal(response.headers.get(headerOf('x-exit-layer')), String(shallowest));
    t.ok(response.headers.has(headerOf('x-predicted-ttft-ms')));
    const body = { ...chat, sortie: { latency_budget_ms: 50_000 } };
    t.match(await client.chat.completions.create(body), { sortie: { budget_ms: 50000 } }, 'the field of the body');
  });

  await testRejection(t, fleet);

  await t.test('a conversation keeps its replica and its prefix', async (t) => {
    const words = 'river stone bread window garden letter winter music paper bridge '.repeat(12);
    for (const session of ['a', 'b', 'c', 'd']) {
      const messages = [{ role: 'user' as const, content: `${session}: ${words}` }];
      // LiteLLM has a header of its own.
      const own = { 'X-Session-Id': session, 'X-Litellm-Session-Id': session, 'X-Max-Exit-Layer': String(deepest) };
      let cached = 0;
      const sent = await sentBy(fleet, 2, async (id) => {
        const headers = { ...own, ...id };
        await client.chat.completions.create({ ...chat, messages }, { headers });
        const next = { ...chat, messages: [...messages, { role: 'user' as const, content: 'And a fruit.' }] };
        const { usage } = await client.chat.completions.create(next, { headers });
        cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
      });
      t.same(sent.map(({ length }) => length).sort(), [0, 2], `session ${session}`);
      t.ok(cached > 50, `${cached} cached tokens`);
    }
  });
}

/** A budget that no replica can meet. */
export async function testRejection(t: Test, fleet: Fleet): Promise<void> {
  const client = clientOf(fleet);
  await t.test('a rejected budget is tried twice, and no third time', async (t) => {
    const headers = { 'X-Latency-Budget-Ms': '1', 'X-Budget-On-Miss': 'reject' };
    let error: unknown;
    const sent = await sentBy(fleet, 2, async (id) => {
      error = await client.chat.completions
        .create(chatOf(fleet), { headers: { ...headers, ...id } })
        .catch((e: unknown) => e);
    });
    t.match(error, { status: fleet.rejection.status, code: fleet.rejection.code });
    t.same(sent.map(({ length }) => length).sort(), fleet.rejection.attempts);
    t.ok(sent.flat().every((status) => status === 503));
  });
}

/** The playground's modules without a browser: streams, budget scale and slowdown. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { build, says } from '../fakes/server.js';

interface Part {
  readonly text: string;
  readonly exit: number | null;
  readonly finish: string | null;
  readonly tokens: number;
  readonly report: object | null;
}

interface Api {
  streamChat(request: object, signal: AbortSignal): AsyncIterable<Part>;
  loadSlowdown(): Promise<number>;
}

interface Budget {
  readonly budgetAt: (step: number) => number | null;
}

async function web<T>(file: string): Promise<T> {
  return (await import(pathToFileURL(join(packageRoot, 'src', 'web', file)).href)) as T;
}

const api = await web<Api>('api.js');
const { budgetAt } = await web<Budget>('budget.js');

const { fetch } = globalThis;

/** Relative addresses go to the server, as in a page that the server sent. */
function from(t: Test, url: string): void {
  t.intercept(globalThis, 'fetch', { value: (path: string, init?: RequestInit) => fetch(`${url}/${path}`, init) });
}

/** Every generation request gets this response. */
function responds(t: Test, response: Response): void {
  t.intercept(globalThis, 'fetch', { value: () => Promise.resolve(response) });
}

const ask = { messages: [{ role: 'user', content: 'Hi' }], budget: null };
const live = new AbortController().signal;

async function collected(request: object): Promise<Part[]> {
  const parts: Part[] = [];
  for await (const part of api.streamChat(request, live)) parts.push(part);
  return parts;
}

void t.test('a stream tells the exit of each part, and the last part has the report', async (t) => {
  const server = await build(t, says('Paris is nice.', { exits: [30, 30, 10], pace: 1 }));
  from(t, server.url);
  const parts = await collected({ ...ask, budget: 5000 });
  t.equal(parts.map(({ text }) => text).join(''), 'Paris is nice.');
  const found = parts.slice(0, 3).map(({ exit }) => exit);
  t.same(found, [30, 30, 10]);
  const counts = parts.slice(0, 3).map(({ tokens }) => tokens);
  t.same(counts, [1, 2, 3]);
  t.match(parts.at(-1), { finish: 'stop', report: { budget_ms: 5000, met: true } });
  t.ok(parts.slice(0, -1).every(({ report }) => report === null));
});

void t.test('an error keeps the parts before it', async (t) => {
  const event = 'data: {"choices":[{"index":0,"delta":{"content":"Paris"}}]}\n\n';
  const ends: readonly [string, string, RegExp][] = [
    ['an error event', `${event}data: {"error":{"message":"The server ends.","code":"draining"}}\n\n`, /server ends/],
    ['a stream that is closed early', event, /mid-stream/],
  ];
  for (const [name, body, message] of ends) {
    responds(t, new Response(body));
    const texts: string[] = [];
    const read = async (): Promise<void> => {
      for await (const { text } of api.streamChat(ask, live)) texts.push(text);
    };
    await t.rejects(read(), { message }, name);
    t.same(texts, ['Paris'], name);
  }
});

void t.test('the budget scale is logarithmic, increases, and ends in no budget', (t) => {
  const budgets = Array.from({ length: 100 }, (_, step) => budgetAt(step) ?? 0);
  t.equal(budgets[0], 50);
  t.equal(budgets[99], 30_000);
  t.equal(budgetAt(100), null);
  t.ok(budgets.every((budget, step) => step === 0 || budget >= (budgets[step - 1] ?? 0)));
  t.end();
});

void t.test('the slowdown comes from the metrics; a port without metrics has none', async (t) => {
  const server = await build(t);
  from(t, server.url);
  t.equal(await api.loadSlowdown(), 1);
  server.context.series.slowdown.set(2.5);
  t.equal(await api.loadSlowdown(), 2.5);
  const other = await build(t, undefined, { options: { opsPort: 0 } });
  other.context.series.slowdown.set(2.5);
  from(t, other.url);
  t.equal(await api.loadSlowdown(), 1);
});

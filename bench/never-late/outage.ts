/**
 * A total outage with many open requests: an upstream that takes requests and says nothing, and ends all of them within
 * a second, or stays silent. A client's clock says which armed nets are kept.
 */
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { quantile } from '../loadgen/stats.js';
import { ask, type Heard } from '../loadgen/ask.js';
import { serverAt } from '../remote/server.js';

/** `ended`: the connections of all requests break within FAIL_MS. `silent`: nothing happens. */
export const OUTAGES = ['ended', 'silent'] as const;
export type Outage = (typeof OUTAGES)[number];

/** The requests arrive within this time. */
const ARRIVALS_MS = 1000;
/** Requests in front of the measurement: a process that has just begun runs code that is not compiled. */
const WARM_UP = 40;
/** From the last arrival to the first failure, and from there to the last failure. */
const WAIT_MS = 500;
const FAIL_MS = 1000;

export interface Open {
  readonly questions: readonly string[];
  readonly budgetMs: number;
  readonly maxTokens: number;
  readonly outage: Outage;
}

interface Kept extends Heard {
  /** `X-Sortie-Net`; empty without it. */
  readonly net: string;
}

/** The upstream of an outage. */
export class SilentUpstream {
  readonly #open: ServerResponse[] = [];
  readonly #server = createServer((request, response) => {
    if (request.method === 'POST') this.#open.push(response);
    else response.writeHead(200, { 'content-type': 'application/json' }).end('{"object":"list","data":[]}');
  });

  /** @returns the address without /v1 */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Answers all open requests. */
  answer(): void {
    for (const response of this.#open.splice(0)) {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: 'Yes. It is.' } }] })}\n\n`);
      const end = { choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] };
      response.end(`data: ${JSON.stringify(end)}\n\ndata: [DONE]\n\n`);
    }
  }

  /** Ends all open requests at even intervals. */
  async fail(): Promise<void> {
    const open = this.#open.splice(0);
    for (const response of open) {
      response.destroy();
      await delay(FAIL_MS / open.length);
    }
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

async function asked(url: string, model: string, question: string, { budgetMs, maxTokens }: Open): Promise<Kept> {
  const body = { messages: [{ role: 'user', content: question }], max_tokens: maxTokens, temperature: 0 };
  let net = '';
  const answer = await ask(
    serverAt(url, null),
    model,
    { path: '/chat/completions', body },
    {
      headers: { 'x-latency-budget-ms': String(budgetMs) },
      onHeaders: (headers) => (net = headers.get('x-sortie-net') ?? ''),
    },
  );
  return { ...answer, net };
}

export const OUTAGE_COLUMNS = [
  'armed',
  'said none',
  'kept',
  'share kept',
  'late',
  'without a sentence',
  'failed',
  'latest past the deadline, ms',
  'last byte p50, ms',
];

/** Opens the requests, lets the upstream fail, and counts the kept nets. @returns the cells of OUTAGE_COLUMNS */
export async function outageFigures(
  url: string,
  model: string,
  upstream: SilentUpstream,
  open: Open,
): Promise<string[]> {
  const { questions, budgetMs, outage } = open;
  const warm = questions.slice(0, WARM_UP).map((question) => asked(url, model, question, open));
  await delay(ARRIVALS_MS);
  upstream.answer();
  await Promise.all(warm);
  const answers = questions.map(async (question, i) => {
    await delay((i * ARRIVALS_MS) / questions.length);
    return asked(url, model, question, open);
  });
  await delay(ARRIVALS_MS + WAIT_MS);
  if (outage === 'ended') await upstream.fail();
  const all = await Promise.all(answers);
  const armed = all.filter(({ net }) => net === 'armed');
  const kept = armed.filter(({ totalMs, report }) => totalMs <= budgetMs && report?.met === true);
  const none = all.filter(({ net }) => net === 'none');
  const times = armed.map(({ totalMs }) => totalMs);
  return [
    String(armed.length),
    String(none.length),
    String(kept.length),
    (kept.length / armed.length).toFixed(3),
    String(times.filter((ms) => ms > budgetMs).length),
    String(armed.filter(({ report }) => report?.met === false).length),
    String(armed.filter(({ error }) => error !== null).length),
    Math.max(0, ...times.map((ms) => ms - budgetMs)).toFixed(0),
    quantile(times, 0.5).toFixed(0),
  ];
}

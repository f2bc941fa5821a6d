/**
 * `npm run bench:proxy-overhead`: the time that Sortie adds to requests to an upstream.
 *
 *   npm run bench:proxy-overhead -- [--clients 1,50,500] [--requests 2000] [--events 20] [--gateway URL]
 *
 * The upstream is a mock in another process, which streams its answer at once. So many clients ask one request after the
 * other: the mock itself, Sortie without a local model, with and without a budget, and another gateway at --gateway. Added
 * times are differences of quantiles to the mock at as many clients. Each side warms up with a tenth of the requests.
 */
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Pool } from 'undici';
import { monotonicMs } from '../src/util/clock.js';
import { quantile } from '../src/util/stats.js';
import { number, numbers, optional, optionsOf, runBench, text } from './options.js';
import { freePort } from './ports.js';
import { main as program, type Server, startServer } from './server.js';
import { tableOf } from './table.js';

const values = optionsOf('bench:proxy-overhead', 'the time that Sortie adds to requests to an upstream', {
  clients: numbers('clients at a time', [1, 50, 500]),
  requests: number('requests of a side', 2000),
  events: number('chunks of an answer', 20),
  gateway: optional('url', 'another gateway, without /v1'),
  gatewayModel: text('name', "the other gateway's name of the model", 'mock'),
});

const WARM_UP_SHARE = 0.1;
const BUDGET_MS = 60_000;

interface Side {
  readonly name: string;
  readonly url: string;
  readonly model: string;
  readonly headers: Readonly<Record<string, string>>;
}

interface Times {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
}

async function asked({ model, headers }: Side, pool: Pool): Promise<void> {
  const body = JSON.stringify({ model, stream: true, messages: [{ role: 'user', content: 'Say something.' }] });
  const all = { 'content-type': 'application/json', ...headers };
  const response = await pool.request({ method: 'POST', path: '/v1/chat/completions', headers: all, body });
  const text = await response.body.text();
  if (response.statusCode === 200 && text.endsWith('data: [DONE]\n\n')) return;
  throw new Error(`status ${response.statusCode}: ${text.slice(-200)}`);
}

async function run(side: Side, clients: number, count: number): Promise<Times> {
  const pool = new Pool(side.url, { connections: clients });
  const times: number[] = [];
  let left = count;
  const client = async (): Promise<void> => {
    while (left-- > 0) {
      const startedAt = monotonicMs();
      await asked(side, pool);
      times.push(monotonicMs() - startedAt);
    }
  };
  const startedAt = monotonicMs();
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (monotonicMs() - startedAt) / 1000;
  await pool.close();
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), perSecond: count / seconds };
}

async function measured(side: Side, clients: number): Promise<Times> {
  await run(side, clients, Math.max(clients, Math.ceil(WARM_UP_SHARE * values.requests)));
  return run(side, clients, Math.max(clients, values.requests));
}

function sidesOf(mock: Server, sortie: Server): Side[] {
  const model = 'mock';
  const budget = { 'x-latency-budget-ms': String(BUDGET_MS) };
  const other = values.gateway;
  return [
    { name: 'mock', url: mock.url, model, headers: {} },
    { name: 'Sortie', url: sortie.url, model, headers: {} },
    { name: 'Sortie, budget', url: sortie.url, model, headers: budget },
    ...(other === undefined ? [] : [{ name: 'gateway', url: other, model: values.gatewayModel, headers: {} }]),
  ];
}

async function main(): Promise<void> {
  const mockProgram = fileURLToPath(new URL('proxy-overhead/mock.js', import.meta.url));
  const port = await freePort();
  const mock = await startServer([process.execPath, mockProgram, String(port), String(values.events)], '/', port);
  const servers = [mock];
  try {
    const flags = ['--no-local', '--upstream', `${mock.url}/v1`, '--upstream-model', 'mock', '--log-level', 'warn'];
    const serve = [process.execPath, program, 'serve', '--port', 'PORT', '--host', '127.0.0.1', ...flags];
    const sortie = await startServer(serve, '/health/ready');
    servers.push(sortie);
    const rows = [['clients', 'side', 'p50, ms', 'p99, ms', 'added p50', 'added p99', 'requests a second']];
    for (const clients of values.clients) {
      let base: Times | null = null;
      for (const side of sidesOf(mock, sortie)) {
        const { p50, p99, perSecond } = await measured(side, clients);
        base ??= { p50, p99, perSecond };
        const times = [p50, p99, p50 - base.p50, p99 - base.p99].map((ms) => ms.toFixed(2));
        rows.push([String(clients), side.name, ...times, perSecond.toFixed(0)]);
      }
    }
    const [cpu] = cpus();
    console.log(tableOf(rows).join('\n'));
    console.log(
      `\n${cpus().length} x ${cpu?.model ?? ''}, load ${loadavg()
        .map((each) => each.toFixed(1))
        .join(' ')}`,
    );
  } finally {
    for (const server of servers.reverse()) await server.stop();
  }
}

await runBench(main);

/**
 * `npm run bench:proxy-overhead`: the time that Sortie adds to requests to an upstream, and its memory.
 *
 *   npm run bench:proxy-overhead -- [--clients 1,50,500] [--rates 50,200] [--requests 2000] [--events 20] [--rounds 3]
 *     [--litellm PROGRAM] [--gateway URL] [--gateway-core 1] [--threads 1] [--gap 50] [--streams 2000]
 *
 * The upstream is a mock in another process, which streams its answer at once, or a chunk in --gap ms. Sides: the mock
 * itself, Sortie without a local model, with and without a budget, LiteLLM's proxy with one worker, and another gateway
 * at --gateway. Sides alternate within a round, and figures are medians of rounds. Added times are differences of
 * quantiles to the mock.
 *
 * - `--clients`: clients that never pause. At the saturation of a side, its time is that of its queue.
 * - `--rates`: requests a second of a Poisson process, below the saturation of all sides.
 * - `--gateway-core`: the core of gateways. `taskset -c 0` in front of the bench gives mock and clients another one.
 * - `--threads`: processes of Sortie.
 * - `--streams`: that many open streams in place of the times, by default with a gap of 2 s.
 */
import { fileURLToPath } from 'node:url';
import { median } from './loadgen/stats.js';
import { startLiteLlm } from './litellm.js';
import { number, numbers, optional, optionalNumber, optionsOf, runBench, text } from './options.js';
import { freePort } from './ports.js';
import { machine } from './processes.js';
import { closedTimes, openTimes, type Side, type Times } from './proxy-overhead/load.js';
import { openStreams } from './proxy-overhead/streams.js';
import { main as program, type Server, startServer, stopServers } from './server.js';
import { tableOf } from './table.js';

const values = optionsOf('bench:proxy-overhead', 'the time that Sortie adds to requests to an upstream', {
  clients: numbers('clients that never pause; by default none with a gap', []),
  rates: numbers('requests a second', [50]),
  requests: number('requests of a side in a round', 2000),
  events: number('chunks of an answer', 20),
  rounds: number('rounds to take medians over', 3),
  litellm: optional('program', "LiteLLM's program, in an environment with litellm[proxy]"),
  gateway: optional('url', 'another gateway, without /v1'),
  gatewayModel: text('name', "the other gateway's name of the model", 'mock'),
  gatewayCore: optional('n', 'core of the gateways'),
  streams: optionalNumber('open streams, to measure memory'),
  threads: number('processes of Sortie', 1),
  gap: optionalNumber('time between two chunks of an answer, ms'),
});

const CLIENTS = [1, 50, 500];
const STREAMS_GAP_MS = 2000;
const WARM_UP_SHARE = 0.1;
const BUDGET_MS = 60_000;

const launcher = values.gatewayCore === undefined ? [] : ['taskset', '-c', values.gatewayCore];

async function startMock(gapMs: number): Promise<Server> {
  const mock = fileURLToPath(new URL('proxy-overhead/mock.js', import.meta.url));
  const port = await freePort();
  return startServer([process.execPath, mock, String(port), String(values.events), String(gapMs)], '/', port);
}

function startGateway(mock: Server): Promise<Server> {
  const upstream = ['--upstream', `${mock.url}/v1`, '--upstream-model', 'mock'];
  const flags = ['--no-local', '--threads', String(values.threads), ...upstream, '--log-level', 'warn'];
  const serve = [...process.execArgv, program, 'serve', '--port', 'PORT', '--host', '127.0.0.1', ...flags];
  return startServer([...launcher, process.execPath, ...serve], '/health/ready');
}

/** The sides, and the servers behind them. */
async function startSides(mock: Server, servers: Server[]): Promise<Side[]> {
  const sortie = await startGateway(mock);
  servers.push(sortie);
  const plain = { model: 'mock', headers: {} };
  const sides: Side[] = [
    { ...plain, name: 'mock', url: mock.url, pid: mock.pid },
    { ...plain, name: 'Sortie', url: sortie.url, pid: sortie.pid },
    { ...plain, name: 'Sortie, budget', ...sortie, headers: { 'x-latency-budget-ms': String(BUDGET_MS) } },
  ];
  if (values.litellm !== undefined) {
    const target = { name: 'mock', base: `${mock.url}/v1`, model: 'mock', timeoutMs: null };
    const litellm = await startLiteLlm(values.litellm, [target], launcher);
    servers.push(litellm);
    sides.push({ ...plain, name: 'LiteLLM', url: litellm.url, pid: litellm.pid });
  }
  const { gateway: url, gatewayModel: model } = values;
  return url === undefined ? sides : [...sides, { ...plain, name: 'gateway', url, model, pid: null }];
}

/** Runs all sides in turn, round by round. @returns medians over the rounds, by side */
async function inRounds(sides: readonly Side[], run: (side: Side, round: number) => Promise<Times>): Promise<Times[]> {
  const rounds: Times[][] = [];
  for (let round = 0; round < values.rounds; round++) {
    const times: Times[] = [];
    for (const side of sides) times.push(await run(side, round));
    rounds.push(times);
  }
  return sides.map((_, side) => {
    const figures = Object.keys(rounds[0]?.[side] ?? {}) as (keyof Times)[];
    const medians = figures.map((each) => [each, median(rounds.map((times) => times[side]?.[each] ?? NaN))]);
    return Object.fromEntries(medians) as Times;
  });
}

/** The columns of quantiles; each has one of the time that a side adds. */
const QUANTILES = { firstP50: 'first p50', firstP99: 'first p99', p50: 'last p50', p99: 'last p99' } as const;
const FIGURES = Object.keys(QUANTILES) as (keyof typeof QUANTILES)[];

const HEAD = [
  ...['load', 'side', ...Object.values(QUANTILES).map((name) => `${name}, ms`)],
  ...Object.values(QUANTILES).map((name) => `added ${name}`),
  ...['core ms a request', 'requests/s', 'failed'],
];

function rowsOf(load: string, sides: readonly Side[], times: readonly Times[]): string[][] {
  const [base] = times;
  return times.map((own, index) => {
    const all = FIGURES.map((figure) => own[figure]);
    const added = FIGURES.map((figure) => own[figure] - (base?.[figure] ?? NaN));
    const cells = [...all, ...added, own.cpuMs].map((ms) => ms.toFixed(2));
    return [load, sides[index]?.name ?? '', ...cells, own.perSecond.toFixed(0), own.failed.toFixed(0)];
  });
}

async function measureTimes(sides: readonly Side[]): Promise<void> {
  const show = (rows: readonly string[][]): void => {
    console.log(tableOf([HEAD, ...rows]).join('\n'));
  };
  for (const side of sides) await closedTimes(side, 10, Math.ceil(WARM_UP_SHARE * values.requests));
  const byDefault = values.gap === undefined ? CLIENTS : [];
  for (const clients of values.clients.length > 0 ? values.clients : byDefault) {
    const count = Math.max(2 * clients, values.requests);
    const times = await inRounds(sides, (side) => closedTimes(side, clients, count));
    show(rowsOf(`${clients} clients`, sides, times));
  }
  for (const rate of values.rates) {
    const times = await inRounds(sides, (side, round) => openTimes(side, rate, values.requests, round));
    show(rowsOf(`${rate}/s`, sides, times));
  }
}

async function measureMemory(sides: readonly Side[], count: number): Promise<void> {
  const rows = [['side', 'streams', 'lost', 'idle, MB', 'all open: first third', 'last third', 'most']];
  for (const side of sides) {
    if (side.pid === null || side.name === 'mock') continue;
    const { lost, idleMb, firstMb, lastMb, mostMb } = await openStreams(side, side.pid, count);
    const memory = [idleMb, firstMb, lastMb, mostMb].map((mb) => mb.toFixed(0));
    rows.push([side.name, String(count), String(lost), ...memory]);
  }
  console.log(tableOf(rows).join('\n'));
}

async function main(): Promise<void> {
  const { streams, gap } = values;
  const mock = await startMock(gap ?? (streams === undefined ? 0 : STREAMS_GAP_MS));
  const servers = [mock];
  try {
    const sides = await startSides(mock, servers);
    await (streams === undefined ? measureTimes(sides) : measureMemory(sides, streams));
    console.log(`\n${machine()}`);
  } finally {
    await stopServers(servers);
  }
}

await runBench(main);

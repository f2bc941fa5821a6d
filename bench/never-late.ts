/**
 * `npm run bench:never-late`: right answers in time in front of an upstream with faults, and in a total outage.
 *
 *   npm run bench:never-late -- [--upstream URL --upstream-model NAME] [--sides client,sortie] [--gateway URL]
 *     [--litellm PROGRAM] [--mixes mixed,outage] [--budgets 800,1500,3000] [--rate 1.5] [--count 90] [--seed 1] [--threads 1]
 *
 * The upstream is a Sortie at full depth, or the server of --upstream. A process with faults lies in front of it. Sides:
 * - `client`: a client that gives up at its deadline. Its answer counts if it has an end by then.
 * - `sortie`: the same requests through Sortie, with the budget in a header and the local model beside it.
 * - `litellm`: LiteLLM's proxy, the program of --litellm. Half of each budget is its time-out of an attempt and of a
 *   silence. Its fall-back is the same local model, with the other half as its budget.
 * - `gateway`: another gateway at --gateway that has the printed address of the faults as its upstream; its client waits
 *   for the end.
 * - `unhurried`: the upstream without faults, and a client that waits for the end: the most that a side can reach.
 *
 * An answer is right by the check of bench:everyday. Each side meets the same requests, budgets and arrivals.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { arrivalTimes } from '../src/loadgen/arrivals.js';
import { seeded } from '../src/util/random.js';
import { quantile } from '../src/util/stats.js';
import { type CheckedRequest, isChecked, readRequests, REQUESTS } from './everyday/requests.js';
import { score } from './everyday/score.js';
import { ask, type Got } from './never-late/ask.js';
import { isMix, type Mix } from './never-late/faults.js';
import { startLiteLlm } from './litellm.js';
import { machine } from './machine.js';
import { EMBEDDED, number, numbers, optional, optionsOf, runBench, text } from './options.js';
import { freePort } from './ports.js';
import { type Server, startServer, startSortie, stopServers } from './server.js';
import { tableOf } from './table.js';

const SIDES = ['unhurried', 'client', 'litellm', 'gateway', 'sortie'] as const;
type Side = (typeof SIDES)[number];

const values = optionsOf('bench:never-late', 'right answers in time in front of an upstream with faults', {
  upstream: optional('url', 'server of the upstream model, without /v1'),
  upstreamModel: text('name', "the upstream's name of its model", 'big'),
  litellm: optional('program', "LiteLLM's program, in an environment with litellm[proxy]"),
  gateway: optional('url', 'another gateway, without /v1'),
  faultsPort: number('port of the faults, for the configuration of --gateway; 0 for a free one', 0, Number),
  sides: text('list', 'sides to measure', 'unhurried,client,sortie'),
  mixes: text('list', 'mixes of faults', 'mixed,outage'),
  model: text('dir', 'model folder of Sortie, and of the default upstream', EMBEDDED),
  budgets: numbers('latency budgets, ms', [800, 1500, 3000]),
  rate: number('requests a second', 1.5),
  count: number('requests of a side', 90),
  maxTokens: number('most tokens of an answer', 80),
  threads: number('threads of each engine', 1),
  seed: number('seed of arrivals, requests and faults', 1),
});

const threads = ['--threads', String(values.threads)];

interface Job {
  readonly at: number;
  readonly request: CheckedRequest;
  readonly budgetMs: number;
}

interface Result extends Got {
  readonly job: Job;
}

function jobs(): Job[] {
  const random = seeded(values.seed);
  const requests = readRequests(REQUESTS).filter(isChecked);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[Math.floor(random() * items.length)];
    if (item === undefined) throw new Error('nothing to pick');
    return item;
  };
  const times = arrivalTimes(values.count, values.rate, 'poisson', random);
  return times.map((at) => ({ at, request: pick(requests), budgetMs: pick(values.budgets) }));
}

/** LiteLLM's name of the upstream with the time-outs of a budget. */
const groupOf = (budgetMs: number): string => `${values.upstreamModel}-${budgetMs}`;

/** The share of a budget that LiteLLM waits for the upstream. */
const WAIT_SHARE = 0.5;

/** LiteLLM in front of the faults and of the local model. @returns both servers */
async function startLiteLlmSide(program: string, faulty: string): Promise<Server[]> {
  const net = await startSortie(values.model, [...threads, '--model-name', 'net']);
  const models = values.budgets.flatMap((budgetMs) => {
    const name = groupOf(budgetMs);
    const fallback = `net-${budgetMs}`;
    const timeoutMs = WAIT_SHARE * budgetMs;
    const rest = { timeoutMs: null, headers: { 'X-Latency-Budget-Ms': String(budgetMs - timeoutMs) } };
    return [
      { name, base: `${faulty}/v1`, model: values.upstreamModel, timeoutMs, fallback },
      { name: fallback, base: `${net.url}/v1`, model: 'net', ...rest },
    ];
  });
  try {
    return [net, await startLiteLlm(program, models)];
  } catch (error) {
    await net.stop();
    throw error;
  }
}

async function measure(side: Side, url: string): Promise<Result[]> {
  return Promise.all(
    jobs().map(async (job) => {
      await delay(job.at);
      const { budgetMs, request } = job;
      const got = await ask({
        url,
        model: side === 'litellm' ? groupOf(budgetMs) : values.upstreamModel,
        question: request.request,
        budgetMs,
        maxTokens: values.maxTokens,
        tellsBudget: side === 'sortie',
        limitMs: side === 'client' ? budgetMs : null,
      });
      return { ...got, job };
    }),
  );
}

function rowOf(mix: Mix, side: Side, results: readonly Result[]): string[] {
  const isAny = side === 'unhurried';
  const inTime = results.filter(({ isWhole, ms, job }) => isWhole && (isAny || ms <= job.budgetMs));
  const right = inTime.reduce((sum, { text, job }) => sum + score(job.request, text), 0) / results.length;
  const past = results.map(({ ms, job }) => Math.max(0, ms - job.budgetMs));
  return [
    mix,
    side,
    right.toFixed(3),
    isAny ? '-' : (inTime.length / results.length).toFixed(3),
    isAny ? '-' : quantile(past, 0.99).toFixed(0),
    isAny ? '-' : Math.max(...past).toFixed(0),
  ];
}

async function sideRow(mix: Mix, side: Side, upstream: string): Promise<string[]> {
  const servers: Server[] = [];
  try {
    const program = fileURLToPath(new URL('never-late/faulty-server.js', import.meta.url));
    const port = values.faultsPort === 0 ? await freePort() : values.faultsPort;
    const faults = [side === 'unhurried' ? 'none' : mix, String(values.seed)];
    const command = [process.execPath, program, String(port), upstream, ...faults];
    const faulty = await startServer(command, '/v1/models', port);
    servers.push(faulty);
    if (side === 'gateway') {
      if (values.gateway === undefined) throw new Error('the side gateway needs --gateway');
      console.error(`faults listen on ${faulty.url}/v1`);
      return rowOf(mix, side, await measure(side, values.gateway));
    }
    if (side === 'litellm') {
      if (values.litellm === undefined) throw new Error('the side litellm needs --litellm');
      servers.push(...(await startLiteLlmSide(values.litellm, faulty.url)));
      return rowOf(mix, side, await measure(side, servers.at(-1)?.url ?? ''));
    }
    if (side !== 'sortie') return rowOf(mix, side, await measure(side, faulty.url));
    const flags = ['--upstream', `${faulty.url}/v1`, '--upstream-model', values.upstreamModel];
    const sortie = await startSortie(values.model, [...threads, ...flags]);
    servers.push(sortie);
    return rowOf(mix, side, await measure(side, sortie.url));
  } finally {
    await stopServers(servers);
  }
}

function listOf<T extends string>(flag: string, list: string, isOne: (name: string) => name is T): T[] {
  return list.split(',').map((name) => {
    if (isOne(name)) return name;
    throw new Error(`--${flag} holds "${name}", which this bench does not have`);
  });
}

async function main(): Promise<void> {
  const sides = listOf('sides', values.sides, (name): name is Side => SIDES.some((side) => side === name));
  const mixes = listOf('mixes', values.mixes, isMix);
  const name = ['--model-name', values.upstreamModel];
  const own = values.upstream === undefined ? await startSortie(values.model, [...threads, ...name]) : null;
  try {
    const rows = [['faults', 'side', 'right answers in time', 'in time', 'p99 past the deadline, ms', 'latest, ms']];
    for (const mix of mixes) {
      for (const side of sides) rows.push(await sideRow(mix, side, own?.url ?? values.upstream ?? ''));
    }
    console.log(tableOf(rows).join('\n'));
    console.log(`\n${machine()}`);
  } finally {
    await own?.stop();
  }
}

await runBench(main);

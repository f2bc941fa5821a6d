/**
 * `npm run bench:never-late`: right answers in time in front of an upstream with faults, and in a total outage.
 *
 *   npm run bench:never-late -- [--upstream URL --upstream-model NAME] [--sides client,sortie]
 *     [--litellm PROGRAM] [--mixes mixed,outage] [--budgets 800,1500,3000] [--rate 1.5] [--count 90] [--seed 1] [--threads 1]
 *     [--open 200]
 *
 * The upstream is a Sortie at full depth, or the server of --upstream. A process with faults lies in front of it. Sides:
 * - `client`: a client that gives up at its deadline. Its answer counts if it has an end by then.
 * - `sortie`: the same requests through Sortie, with the budget in a header and the local model beside it.
 * - `litellm`: LiteLLM's proxy, the program of --litellm. Half of each budget is its time-out of an attempt and of a
 *   silence. Its fall-back is the same local model, with the other half as its budget.
 * - `unhurried`: the upstream without faults, and a client that waits for the end: the most that a side can reach.
 *
 * With --open, so many requests of each budget arrive within a second. Their upstream is silent, or ends all of them
 * within a second. The table has the armed nets, and those that are kept by the clients' clock.
 *
 * An answer is right by the check of bench:everyday. Each side meets the same requests, budgets and arrivals. The target
 * of a side is the upstream's right answers of `unhurried` times the net's accuracy where the net answers. Late is an
 * answer whose last byte comes past its deadline.
 */
import { fileURLToPath } from 'node:url';
import { seeded } from './loadgen/random.js';
import { loadManifest } from '../src/engine/model/manifest-io.js';
import { engineMs, machine } from './processes.js';
import { isChecked, readRequests, REQUESTS } from './everyday/requests.js';
import { ask } from './loadgen/ask.js';
import { arrivalTimes, openLoop } from './loadgen/run.js';
import { isMix, type Mix } from './never-late/faults.js';
import * as figures from './never-late/figures.js';
import type { Job, Result, SideResult } from './never-late/figures.js';
import { OUTAGE_COLUMNS, outageFigures, OUTAGES, SilentUpstream } from './never-late/outage.js';
import { startLiteLlm } from './litellm.js';
import { EMBEDDED, number, numbers, optional, optionalNumber, optionsOf, runBench, text } from './options.js';
import { freePort } from './ports.js';
import { serverAt } from './remote/server.js';
import { type Server, startServer, startSortie, stopServers } from './server.js';
import { tableOf } from './table.js';

const SIDES = ['unhurried', 'client', 'litellm', 'sortie'] as const;
type Side = (typeof SIDES)[number];

const values = optionsOf('bench:never-late', 'right answers in time in front of an upstream with faults', {
  upstream: optional('url', 'server of the upstream model, without /v1'),
  upstreamModel: text('name', "the upstream's name of its model", 'big'),
  litellm: optional('program', "LiteLLM's program, in an environment with litellm[proxy]"),
  sides: text('list', 'sides to measure', 'unhurried,client,sortie'),
  mixes: text('list', 'mixes of faults', 'mixed,outage'),
  model: text('dir', 'model folder of Sortie, and of the default upstream', EMBEDDED),
  budgets: numbers('latency budgets, ms', [800, 1500, 3000]),
  rate: number('requests a second', 1.5),
  count: number('requests of a side', 90),
  maxTokens: number('most tokens of an answer', 80),
  threads: number('threads of each engine', 1),
  open: optionalNumber('open requests in a total outage, in place of the sides'),
  seed: number('seed of arrivals, requests and faults', 1),
});

const threads = ['--threads', String(values.threads)];

/** The jobs, and their arrivals in ms from the start. */
function jobsOf(count: number): { readonly jobs: Job[]; readonly times: number[] } {
  const random = seeded(values.seed);
  const requests = readRequests(REQUESTS).filter(isChecked);
  const pick = <T>(items: readonly T[]): T => {
    const item = items[Math.floor(random() * items.length)];
    if (item === undefined) throw new Error('nothing to pick');
    return item;
  };
  const times = arrivalTimes(count, values.rate, 'poisson', random);
  return { times, jobs: times.map(() => ({ request: pick(requests), budgetMs: pick(values.budgets) })) };
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

/** Sends the jobs to a side. */
async function measure(side: Side, url: string): Promise<Result[]> {
  const { jobs, times } = jobsOf(values.count);
  return openLoop(
    ({ request, budgetMs }: Job, scheduledAt) => {
      const messages = [{ role: 'user', content: request.request }];
      const body = { messages, max_tokens: values.maxTokens, temperature: 0 };
      const model = side === 'litellm' ? groupOf(budgetMs) : values.upstreamModel;
      return ask(
        serverAt(url, null),
        model,
        { path: '/chat/completions', body },
        {
          scheduledAt,
          ...(side === 'sortie' && { headers: { 'x-latency-budget-ms': String(budgetMs) } }),
          ...(side === 'client' && { signal: AbortSignal.timeout(budgetMs) }),
        },
      );
    },
    jobs,
    times,
  );
}

/** Time of nets that did not answer, seconds. */
async function wastedSeconds(sortie: string): Promise<number> {
  const text = await (await fetch(`${sortie}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith('sortie_net_seconds_total{'));
  const wasted = lines.filter((line) => !line.includes('result="answered"'));
  return wasted.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

async function startFaults(mix: Mix, upstream: string): Promise<Server> {
  const program = fileURLToPath(new URL('never-late/faulty-server.js', import.meta.url));
  const port = await freePort();
  const command = [process.execPath, program, String(port), upstream, mix, String(values.seed)];
  return startServer(command, '/v1/models', port);
}

/** Starts the servers of a side in front of the faults. @returns the one that its clients ask */
async function startSide(side: Side, faulty: Server, servers: Server[]): Promise<string> {
  if (side === 'litellm') {
    if (values.litellm === undefined) throw new Error('the side litellm needs --litellm');
    servers.push(...(await startLiteLlmSide(values.litellm, faulty.url)));
  } else if (side === 'sortie') {
    const flags = ['--upstream', `${faulty.url}/v1`, '--upstream-model', values.upstreamModel];
    servers.push(await startSortie(values.model, [...threads, ...flags]));
  }
  return servers.at(-1)?.url ?? '';
}

/** @param upstream its engine's time counts; null for one that this bench did not start */
async function sideResult(mix: Mix, side: Side, url: string, upstream: Server | null): Promise<SideResult> {
  const servers: Server[] = [];
  try {
    const faulty = await startFaults(side === 'unhurried' ? 'none' : mix, url);
    servers.push(faulty);
    const asked = await startSide(side, faulty, servers);
    const engines = [...servers, ...(upstream === null ? [] : [upstream])].map(({ pid }) => pid);
    const engineTime = (): number => engines.reduce((sum, pid) => sum + engineMs(pid), 0);
    const before = engineTime();
    const results = await measure(side, asked);
    const engineSeconds = (engineTime() - before) / 1000;
    return { results, engineSeconds, wastedSeconds: side === 'sortie' ? await wastedSeconds(asked) : null };
  } finally {
    await stopServers(servers);
  }
}

/** The rows of one mix. */
async function mixRows(mix: Mix, sides: readonly Side[], url: string, upstream: Server | null): Promise<string[][]> {
  const accuracies = new Map(
    loadManifest(values.model).exits.map(({ layer, quality }) => [layer, quality.accuracy ?? 1]),
  );
  const rows: string[][] = [];
  let unhurried: readonly Result[] | null = null;
  for (const side of sides) {
    const result = await sideResult(mix, side, url, upstream);
    if (side === 'unhurried') {
      unhurried = result.results;
      rows.push([mix, side, ...figures.unhurriedFigures(result)]);
      continue;
    }
    const target = unhurried === null ? null : figures.targetOf(result.results, unhurried, accuracies);
    rows.push([mix, side, ...figures.figuresOf(result, target, side !== 'client')]);
  }
  return rows;
}

function listOf<T extends string>(flag: string, list: string, isOne: (name: string) => name is T): T[] {
  return list.split(',').map((name) => {
    if (isOne(name)) return name;
    throw new Error(`--${flag} holds "${name}", which this bench does not have`);
  });
}

/** Measures armed nets in a total outage. */
async function measureOutages(count: number): Promise<void> {
  const rows = [['outage', 'budget, ms', ...OUTAGE_COLUMNS]];
  const questions = jobsOf(count).jobs.map(({ request }) => request.request);
  for (const outage of OUTAGES) {
    for (const budgetMs of values.budgets) {
      const upstream = new SilentUpstream();
      const flags = ['--upstream', `${await upstream.listen()}/v1`, '--upstream-model', values.upstreamModel];
      const sortie = await startSortie(values.model, [...threads, ...flags]);
      try {
        const open = { questions, budgetMs, maxTokens: values.maxTokens, outage };
        const cells = await outageFigures(sortie.url, values.upstreamModel, upstream, open);
        rows.push([outage, String(budgetMs), ...cells]);
      } finally {
        await sortie.stop();
        upstream.close();
      }
    }
  }
  console.log(tableOf(rows).join('\n'));
}

async function measureSides(): Promise<void> {
  const sides = listOf('sides', values.sides, (name): name is Side => SIDES.some((side) => side === name));
  const mixes = listOf('mixes', values.mixes, isMix);
  const name = ['--model-name', values.upstreamModel];
  const own = values.upstream === undefined ? await startSortie(values.model, [...threads, ...name]) : null;
  try {
    const rows = [['faults', 'side', ...figures.COLUMNS]];
    for (const mix of mixes) rows.push(...(await mixRows(mix, sides, own?.url ?? values.upstream ?? '', own)));
    console.log(tableOf(rows).join('\n'));
  } finally {
    await own?.stop();
  }
}

async function main(): Promise<void> {
  await (values.open === undefined ? measureSides() : measureOutages(values.open));
  console.log(`\n${machine()}`);
}

await runBench(main);

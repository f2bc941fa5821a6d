/**
 * Real replicas behind proxies against the simulation of the same pool:
 * `npm run bench:replicas -- [--sides split,haproxy,envoy] [--rates LIST] [--seconds N]`.
 *
 * Each replica has one thread and serves the embedded model on this machine. `split` sends to the replicas in turns, as
 * to separate servers. The client sends requests with budgets at each rate. The simulation gets their arrivals, lengths
 * and budgets, and the costs that `sortie calibrate` measures on all cores at once, as the replicas share them. It takes
 * the policy of the proxy. The programs `haproxy` and `envoy`, and a machine without other load, are required.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { packageRoot } from '../src/config.js';
import { parseCostFile, type CostFile } from '../src/simulate/costs.js';
import { simulateCommand } from '../src/simulate/command.js';
import { simulateDefaults } from '../src/simulate/options.js';
import { arrivalTimes } from '../src/load/arrivals.js';
import { seeded } from '../src/util/random.js';
import { quantile } from '../src/util/stats.js';
import { positive, positives } from './options.js';
import { freePort, main, type Server, startServer, startSortie } from './server.js';

const MODEL = join(packageRoot, 'models', 'smollm2-135m-sorted');
/** The files of deploy/ have two. */
const REPLICAS = 2;
/** Total budgets in turn, ms. */
const BUDGETS = [1500, 3000, 6000, 12_000];
const WORDS = 'river stone bread window garden letter winter music paper bridge'.split(' ');

/** One request, and its answer as the client sees it. */
interface Answered {
  /** Milliseconds from the start of the run. */
  readonly atMs: number;
  readonly budgetMs: number;
  readonly promptTokens: number;
  readonly tokens: number;
  readonly met: boolean;
  readonly exits: Readonly<Record<string, number>>;
}

interface Body {
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
  readonly sortie: { readonly met: boolean; readonly exit_layers: Readonly<Record<string, number>> };
}

async function ask(url: string, i: number, atMs: number, random: () => number): Promise<Answered> {
  const word = (): string => WORDS[Math.floor(random() * WORDS.length)] ?? 'word';
  const words = Array.from({ length: 20 + Math.floor(random() * 80) }, word).join(' ');
  const budgetMs = BUDGETS[i % BUDGETS.length] ?? NaN;
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-latency-budget-ms': String(budgetMs) },
    // The number comes first, so that no prompt shares a prefix: the simulator has no prefix reuse.
    body: JSON.stringify({
      prompt: `${i} ${words}`,
      max_tokens: 20 + Math.floor(random() * 80),
      ignore_eos: true,
      seed: i,
    }),
  });
  if (!response.ok) throw new Error(`status ${response.status}: ${await response.text()}`);
  const { usage, sortie } = (await response.json()) as Body;
  const { prompt_tokens: promptTokens, completion_tokens: tokens } = usage;
  return { atMs, budgetMs, promptTokens, tokens, met: sortie.met, exits: sortie.exit_layers };
}

/** Sends requests at a mean rate per second to the addresses in turns, without waiting for answers. */
async function load(urls: readonly string[], rate: number, seconds: number): Promise<Answered[]> {
  const random = seeded(Math.round(rate * 1000));
  const start = performance.now();
  const answers: Promise<Answered>[] = [];
  for (const at of arrivalTimes(Math.round(rate * seconds), rate, 'poisson', random)) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, at - (performance.now() - start))));
    const url = urls[answers.length % urls.length] ?? '';
    answers.push(ask(url, answers.length, performance.now() - start, random));
  }
  return Promise.all(answers);
}

/** The run as a log that `simulate` reads. */
function traceOf(answers: readonly Answered[]): string {
  return answers
    .map(({ atMs, budgetMs, promptTokens, tokens }) =>
      JSON.stringify({
        ...{ msg: 'request', time: 1e12 + atMs, ms: 0, prompt_tokens: promptTokens, completion_tokens: tokens },
        sortie: { budget_ms: budgetMs },
      }),
    )
    .join('\n');
}

/** Mean quality of the tokens, as the simulation's report has it. */
function qualityOf(answers: readonly Answered[], { shape }: CostFile): number {
  let [sum, count] = [0, 0];
  for (const [layer, tokens] of answers.flatMap(({ exits }) => Object.entries(exits))) {
    const exit = shape.exits.find((each) => each.layer === Number(layer));
    if (exit === undefined) throw new Error(`no exit ${layer} in the costs`);
    sum += exit.quality * tokens;
    count += tokens;
  }
  return sum / count;
}

type Proxy = 'haproxy' | 'envoy';
const SIDES = ['split', 'haproxy', 'envoy'] as const;
type Side = (typeof SIDES)[number];

/** A proxy with the file of deploy/ in front of two servers. */
async function startProxy(proxy: Proxy, dir: string, replicas: readonly Server[]): Promise<Server> {
  const [front, operations] = [await freePort(), await freePort()];
  const [a, b] = replicas.map(({ url }) => new URL(url).port);
  const ports = { 8080: front, 8081: a, 9081: a, 8082: b, 9082: b, 8404: operations, 9901: operations };
  const name = proxy === 'haproxy' ? 'haproxy.cfg' : 'envoy.yaml';
  let text = readFileSync(join(packageRoot, 'deploy', proxy, name), 'utf8');
  for (const [from, to] of Object.entries(ports))
    text = text.replace(new RegExp(`(?<=:|port |port_value: )${from}\\b`, 'g'), String(to));
  const file = join(dir, name);
  writeFileSync(file, text);
  const command =
    proxy === 'haproxy'
      ? ['haproxy', '-db', '-q', '-f', file]
      : ['envoy', '-c', file, '--disable-hot-restart', '--concurrency', '1', '-l', 'error'];
  return startServer(command, '/health/ready', front);
}

/** 99% quantiles in ms of short requests through each address, in turns. */
async function shortP99(urls: readonly string[], count: number): Promise<number[]> {
  const times = urls.map((): number[] => []);
  for (let i = 0; i < count; i++)
    for (const [side, url] of urls.entries()) {
      const start = performance.now();
      await (await fetch(`${url}/version`)).text();
      times[side]?.push(performance.now() - start);
    }
  return times.map((each) => quantile(each, 0.99));
}

/** Costs of one thread while other processes use the other cores in the same way. */
async function calibrateAll(file: string, replicas: number): Promise<CostFile> {
  const calibrate = () => promisify(execFile)(process.execPath, [main, 'calibrate', MODEL, '--threads', '1']);
  const [first] = await Promise.all(Array.from({ length: replicas }, calibrate));
  if (first === undefined) throw new Error('there must be at least one replica');
  const { stdout } = first;
  writeFileSync(file, stdout);
  return parseCostFile(stdout);
}

const { values } = parseArgs({
  options: {
    sides: { type: 'string', default: 'haproxy' },
    rates: { type: 'string', default: '0.5,1,2' },
    seconds: { type: 'string', default: '60' },
  },
});
const sides = values.sides.split(',').map((name): Side => {
  const side = SIDES.find((each) => each === name);
  if (side === undefined) throw new Error(`--sides must be of ${SIDES.join(', ')}, got "${name}"`);
  return side;
});
const rates = positives('--rates', values.rates);
const seconds = positive('--seconds', values.seconds);
const dir = mkdtempSync(join(tmpdir(), 'sortie-replicas-'));
const costFile = join(dir, 'cost.json');
const costs = await calibrateAll(costFile, REPLICAS);
const options = ['--threads', '1', '--load-header', 'on'];
const servers = await Promise.all(Array.from({ length: REPLICAS }, () => startSortie(MODEL, options)));
const direct = servers.map(({ url }) => url);
const proxies: Server[] = [];

/** The simulation of a run. */
async function simulated(side: Side, rate: number, answers: readonly Answered[]) {
  const { limits } = (await (await fetch(`${direct[0] ?? ''}/props`)).json()) as {
    limits: { kv_tokens: number; max_model_len: number };
  };
  const trace = join(dir, `${side}-${rate}.log`);
  writeFileSync(trace, traceOf(answers));
  const shape = { kvPositions: limits.kv_tokens, maxLength: limits.max_model_len };
  const fleet = {
    replicas: REPLICAS,
    maxReplicas: REPLICAS,
    balance: side === 'envoy' ? 'orca' : 'least_request',
  } as const;
  const [report] = await simulateCommand(
    {
      ...{ ...simulateDefaults, trace, cost: costFile, speeds: [1], limit: answers.length },
      ...{ limits: 'stated', ...shape, ...fleet },
    },
    () => undefined,
  );
  if (report === undefined) throw new Error('the simulation has no report');
  return report;
}

try {
  console.log(
    `${cpus()[0]?.model ?? 'unknown CPU'}, load average ${loadavg()[0]?.toFixed(2) ?? ''}, ${seconds} s a rate`,
  );
  const urls = new Map<Side, readonly string[]>();
  for (const side of sides) {
    if (side === 'split') urls.set(side, direct);
    else {
      const proxy = await startProxy(side, dir, servers);
      proxies.push(proxy);
      urls.set(side, [proxy.url]);
      const [own = NaN, through = NaN] = await shortP99([direct[0] ?? '', proxy.url], 500);
      console.log(`${side}: p99 of a short request ${through.toFixed(2)} ms, without the proxy ${own.toFixed(2)} ms`);
    }
  }
  console.log('side | requests/s | requests | attainment measured | simulated | mean quality measured | simulated');
  for (const rate of rates)
    for (const [side, addresses] of urls) {
      const answers = await load(addresses, rate, seconds);
      const report = await simulated(side, rate, answers);
      const measured = answers.filter(({ met }) => met).length / answers.length;
      const numbers = [measured, report.attainment, qualityOf(answers, costs), report.meanQuality];
      console.log([side, rate, answers.length, ...numbers.map((value) => value.toFixed(3))].join(' | '));
    }
} finally {
  for (const server of [...proxies, ...servers]) await server.stop();
}

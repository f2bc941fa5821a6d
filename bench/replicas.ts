/**
 * Real replicas behind proxies, on this machine:
 * `npm run bench:replicas -- [--sides split,haproxy,envoy] [--rates LIST] [--seconds N] [--seeds LIST] [--questions]`.
 *
 * Each replica has one thread and serves the embedded model. `split` sends to the replicas in turns, as to separate
 * servers with an ideal split. The sides take turns, so that other work on the machine meets all of them.
 *
 * - By default, requests with budgets have a stated length. The simulator then serves the same arrivals, lengths and
 *   budgets by the policy of the side. It has the costs of the replicas, and the speeds that their steps had in the run.
 * - With `--questions`, the requests are those of bench:goodput, and the share of right answers in time counts. A rate
 *   is a multiple of the throughput of one replica at full depth.
 *
 * The programs `haproxy` and `envoy` are required. FILE of `--out` gets the runs as JSON.
 */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../src/config.js';
import { depthShape } from '../src/engine/depth-shape.js';
import { arrivalTimes } from '../src/load/arrivals.js';
import { meanOf } from '../src/load/summary.js';
import { loadManifest } from '../src/model/manifest-io.js';
import { type CostFile, parseCostFile } from '../src/simulate/costs.js';
import { seeded } from '../src/util/random.js';
import { quantile } from '../src/util/stats.js';
import { EMBEDDED, flag, number, numbers, optional, optionsOf, text } from './options.js';
import { freePort } from './ports.js';
import { rightInTime, setupOf } from './replicas/questions.js';
import { type Answered, measured, type Result, type Run, type Side, SIDES, simulated } from './replicas/simulated.js';
import { speedsOf } from './replicas/speed.js';
import { type Server, startServer, startSortie } from './server.js';

/** The files of deploy/ have two. */
const REPLICAS = 2;
/** Total budgets in turn, ms. */
const BUDGETS = [1000, 2000, 4000, 8000];
const WORDS = 'river stone bread window garden letter winter music paper bridge'.split(' ');

interface Body {
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
  readonly sortie: { readonly exit_layers: Readonly<Record<string, number>> };
}

/** @param name begins the prompt, so that no prompt shares a prefix: the simulated requests share none */
async function ask(url: string, name: string, i: number, atMs: number, random: () => number): Promise<Answered> {
  const word = (): string => WORDS[Math.floor(random() * WORDS.length)] ?? 'word';
  const words = Array.from({ length: 20 + Math.floor(random() * 80) }, word).join(' ');
  const budgetMs = BUDGETS[i % BUDGETS.length] ?? NaN;
  const max_tokens = 20 + Math.floor(random() * 80);
  const start = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-latency-budget-ms': String(budgetMs) },
    // Answers with a seed have no drafts: the simulator has none either.
    body: JSON.stringify({ prompt: `${name}.${i} ${words}`, max_tokens, ignore_eos: true, seed: i }),
  });
  if (!response.ok) throw new Error(`status ${response.status}: ${await response.text()}`);
  const { usage, sortie } = (await response.json()) as Body;
  const { prompt_tokens: promptTokens, completion_tokens: tokens } = usage;
  return { atMs, budgetMs, promptTokens, tokens, ms: performance.now() - start, exits: sortie.exit_layers };
}

/** Sends requests at a mean rate per second to the addresses in turns, without waiting for answers. */
async function load(urls: readonly string[], side: Side, rate: number, seed: number): Promise<Run> {
  const random = seeded(1000 * seed + Math.round(rate * 10));
  const start = performance.now();
  const over = new AbortController();
  const speeds = direct.map((url) => speedsOf(url, start, over.signal));
  const answers: Promise<Answered>[] = [];
  for (const at of arrivalTimes(Math.round(rate * seconds), rate, 'poisson', random)) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, at - (performance.now() - start))));
    const url = urls[answers.length % urls.length] ?? '';
    answers.push(ask(url, `${side} ${rate} ${seed}`, answers.length, performance.now() - start, random));
  }
  const all = await Promise.all(answers);
  over.abort();
  return { side, rate, seed, answers: all, speeds: await Promise.all(speeds) };
}

type Proxy = 'haproxy' | 'envoy';

/** A proxy with the file of deploy/ in front of two servers. */
async function startProxy(proxy: Proxy, dir: string, replicas: readonly Server[]): Promise<Server> {
  const [front, operations] = [await freePort(), await freePort()];
  const [a, b] = replicas.map(({ url }) => new URL(url).port);
  const ports = { 8080: front, 8081: a, 9081: a, 8082: b, 9082: b, 8404: operations, 9901: operations };
  const name = proxy === 'haproxy' ? 'haproxy.cfg' : 'envoy.yaml';
  let config = readFileSync(join(packageRoot, 'deploy', proxy, name), 'utf8');
  for (const [from, to] of Object.entries(ports))
    config = config.replace(new RegExp(`(?<=:|port |port_value: )${from}\\b`, 'g'), String(to));
  // The policy of the simulation counts connections only.
  config = config.replace(/^ *use-server .*\n/gm, '');
  const file = join(dir, name);
  writeFileSync(file, config);
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

const values = optionsOf('bench:replicas', 'two replicas behind proxies, and the same on paper', {
  sides: text('list', `some of ${SIDES.join(', ')}`, 'haproxy'),
  rates: numbers('requests per second, or with --questions multiples of one replica at full depth', [8, 14, 20]),
  seconds: number('duration of each run', 60),
  seeds: numbers('seeds of arrivals', [1]),
  short: number('short requests through each proxy and without it', 500),
  questions: flag('questions of bench:goodput, judged by right answers in time'),
  out: optional('file', 'file for the runs as JSON'),
});
const sides = values.sides.split(',').map((name): Side => {
  const side = SIDES.find((each) => each === name);
  if (side === undefined) throw new Error(`--sides must be of ${SIDES.join(', ')}, got "${name}"`);
  return side;
});
const { rates, seconds, seeds, short } = values;
const dir = mkdtempSync(join(tmpdir(), 'sortie-replicas-'));
const cache = join(dir, 'costs');
const options = ['--threads', '1', '--load-header', 'on', '--audit', 'off', '--cache-dir', cache];
// The first replica measures the costs, and the others start with its table.
const servers = [await startSortie(EMBEDDED, options)];
const costs = costsOf();
while (servers.length < REPLICAS) servers.push(await startSortie(EMBEDDED, options));
const direct = servers.map(({ url }) => url);
const proxies: Server[] = [];

function costsOf(): CostFile {
  const [name = ''] = readdirSync(cache).filter((each) => each.startsWith('calibration-'));
  const { cost } = JSON.parse(readFileSync(join(cache, name), 'utf8')) as { cost: unknown };
  return parseCostFile(JSON.stringify({ cost, shape: depthShape(loadManifest(EMBEDDED)) }));
}

/** The runs of all sides, each pair of rate and seed in another order. */
function* inTurns(): Generator<{ readonly side: Side; readonly rate: number; readonly seed: number }> {
  let turn = 0;
  for (const seed of seeds)
    for (const rate of rates) {
      for (let i = 0; i < sides.length; i++) yield { side: sides[(turn + i) % sides.length] ?? 'split', rate, seed };
      turn++;
    }
}

const row = (...cells: (string | number)[]): void => {
  const shown = (cell: string | number) =>
    typeof cell === 'number' && !Number.isInteger(cell) ? cell.toFixed(3) : cell;
  console.log(cells.map(shown).join(' | '));
};

/** Right answers in time. */
async function askQuestions(urls: ReadonlyMap<Side, readonly string[]>): Promise<void> {
  const setup = await setupOf(direct[0] ?? '');
  console.log(`one replica at full depth: ${setup.perSecond.toFixed(2)} requests/s`);
  row('side', 'load of one replica', 'seed', 'requests', 'right in time', 'in time', 'standard error');
  for (const { side, rate, seed } of inTurns()) {
    const of = await rightInTime(urls.get(side) ?? [], setup, { rate, seconds, seed });
    const error = of.deviation / Math.sqrt(of.requests);
    row(side, rate, seed, of.requests, of.rightInTime ?? NaN, of.inTime, error);
  }
}

/** Measured and simulated shares in budget, and their means over the seeds. */
async function compare(urls: ReadonlyMap<Side, readonly string[]>): Promise<void> {
  const { limits } = (await (await fetch(`${direct[0] ?? ''}/props`)).json()) as { limits: { kv_tokens: number } };
  if (JSON.stringify(costsOf()) !== JSON.stringify(costs))
    throw new Error('the machine is too busy: a later replica found other costs than the first one');
  const runs: (Run & { readonly real: Result; readonly paper: Result })[] = [];
  const columns = ['requests', 'in budget', 'simulated', 'mean quality', 'simulated'];
  row('side', 'requests/s', 'seed', ...columns);
  for (const { side, rate, seed } of inTurns()) {
    const run = await load(urls.get(side) ?? [], side, rate, seed);
    const paper = simulated(run, costs, { kvPositions: limits.kv_tokens, overheadMs: 12 });
    const real = measured(run, costs);
    runs.push({ ...run, real, paper });
    row(side, rate, seed, run.answers.length, real.met, paper.met, real.quality, paper.quality);
  }
  if (values.out !== undefined) writeFileSync(values.out, JSON.stringify({ limits, costs, runs }));
  row('side', 'requests/s', ...columns);
  for (const side of sides)
    for (const rate of rates) {
      const same = runs.filter((run) => run.side === side && run.rate === rate);
      const of = (value: (run: (typeof runs)[number]) => number): number => meanOf(same.map(value));
      const count = same.reduce((sum, { answers }) => sum + answers.length, 0);
      const met = [of(({ real }) => real.met), of(({ paper }) => paper.met)];
      row(
        side,
        rate,
        count,
        ...met,
        of(({ real }) => real.quality),
        of(({ paper }) => paper.quality),
      );
    }
}

try {
  console.log(
    `${cpus()[0]?.model ?? 'unknown CPU'}, load average ${loadavg()[0]?.toFixed(2) ?? ''}, ${seconds} s a run`,
  );
  const urls = new Map<Side, readonly string[]>();
  for (const side of sides) {
    if (side === 'split') urls.set(side, direct);
    else {
      const proxy = await startProxy(side, dir, servers);
      proxies.push(proxy);
      urls.set(side, [proxy.url]);
      const [own = NaN, through = NaN] = await shortP99([direct[0] ?? '', proxy.url], short);
      console.log(`${side}: p99 of a short request ${through.toFixed(2)} ms, without the proxy ${own.toFixed(2)} ms`);
    }
  }
  await (values.questions ? askQuestions(urls) : compare(urls));
} finally {
  for (const server of [...proxies, ...servers]) await server.stop();
}

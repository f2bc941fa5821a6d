/**
 * Goodput under load, over HTTP: Sortie routed by budgets, Sortie at fixed depths, and with --peer llama-server.
 *
 *   npm run bench:goodput -- --trace FILE [--out DIR] [--peer DIR --peer-model FILE] [--loads 0.5,0.8,1,1.5,2] ...
 *
 * Every side gets the same requests at the same instants. Load 1 is what full depth completes with clients that never
 * pause. Budgets are 2, 4 and 10 times what full depth alone takes on the idle machine. Writes goodput.json,
 * attainment.svg (against load) and quality.svg (mean quality against attainment); with the same options, a later call
 * adds its sides, loads and arrivals to the same files, so that a long bench can be run in pieces.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../src/config.js';
import type { Architecture } from '../src/model/manifest.js';
import { loadManifest } from '../src/model/manifest-io.js';
import { depthShape } from '../src/router/planner.js';
import { parseCostFile } from '../src/simulate/costs.js';
import type { SimulatedRequest } from '../src/simulate/request.js';
import { type TraceEntry, parseTrace } from '../src/simulate/trace.js';
import type { BudgetClass } from '../src/simulate/workload.js';
import { classesFor, requestsOf, seeded } from '../src/simulate/workload.js';
import { calibrateCommand } from '../src/engine/calibrate-command.js';
import { complete } from './goodput/client.js';
import { type Arrivals, type Sent, arrivalTimes, closedLoop, openLoop, promptOf } from './goodput/load.js';
import { plots } from './goodput/plots.js';
import { type Run, earlier, withRun } from './goodput/record.js';
import { routerTime } from './goodput/router-time.js';
import { type Side, sidesOf } from './goodput/side.js';
import { isMet, summaryOf } from './goodput/summary.js';
import { positive, positives } from './options.js';
import { type Server, startPeer, startSortie } from './server.js';
import { median } from './stats.js';

interface Options {
  readonly trace: string | undefined;
  readonly out: string;
  readonly model: string;
  readonly peer?: string;
  readonly peerModel?: string;
  readonly peerAttention: string;
  readonly loads: string;
  readonly arrivals: string;
  readonly fixed: string;
  readonly sides?: string;
  readonly requests: string;
  readonly lengthScale: string;
  readonly threads: string;
  readonly slots: string;
  readonly seed: string;
  readonly misses: boolean;
  readonly routerTime: boolean;
}

const values = new Command('bench:goodput')
  .description('attainment, quality and goodput under load, over HTTP: routed, fixed depths, llama-server')
  .option('--trace <file>', 'CSV in the format of the Azure LLM inference traces; needed but for --router-time')
  .option('--out <dir>', 'where the JSON and the plots go', 'runs/goodput')
  .option('--model <dir>', 'model folder', join(packageRoot, 'models', 'smollm2-135m-sorted'))
  .option('--peer <dir>', 'a build of llama.cpp: runs its llama-server, too')
  .option('--peer-model <file>', 'GGUF file for the peer')
  .option(
    '--peer-attention <mode>',
    "the peer's flash attention: on, off or auto; bench:engine tells which is faster",
    'auto',
  )
  .option('--loads <list>', 'multiples of what full depth completes', '0.5,0.8,1,1.5,2')
  .option('--arrivals <list>', 'poisson, bursty or both', 'poisson,bursty')
  .option('--fixed <list>', 'exits of the sides that serve one depth', '30,20,10')
  .option('--sides <list>', 'only these: routed, truncate, "fixed 30", llama-server ...; default: all')
  .option('--requests <n>', 'requests of each run', '120')
  .option('--length-scale <x>', 'factor on the lengths of the trace', '0.1')
  .option('--threads <n>', 'compute threads of every side', '2')
  .option('--slots <n>', 'sequences at once, of every side', '16')
  .option('--seed <n>', 'seed of arrivals and budgets', '1')
  .option('--misses', 'print every request that was late although it was found feasible', false)
  .option('--router-time', 'measure what the router takes for a step with 64 requests, and nothing else', false)
  .parse()
  .opts<Options>();

function arrivalKinds(): Arrivals[] {
  return values.arrivals.split(',').map((kind) => {
    if (kind === 'poisson' || kind === 'bursty') return kind;
    throw new Error(`--arrivals must be poisson, bursty or both, got "${values.arrivals}"`);
  });
}

function chosen(sides: readonly Side[]): Side[] {
  if (values.sides === undefined) return [...sides];
  const names = sides.map(({ name }) => name);
  return values.sides.split(',').map((name) => {
    const side = sides.find((each) => each.name === name.trim());
    if (side === undefined) throw new Error(`--sides must be some of ${names.join(', ')}, got "${name}"`);
    return side;
  });
}

const file = join(values.out, 'goodput.json');

async function main(): Promise<void> {
  if ((values.peer === undefined) !== (values.peerModel === undefined)) {
    throw new Error('--peer DIR and --peer-model FILE go together');
  }
  if (values.routerTime) {
    await sayRouterTime();
    return;
  }
  if (values.trace === undefined) throw new Error('--trace FILE must be given, but for --router-time');
  const trace = parseTrace(await readFile(values.trace, 'utf8'));
  const manifest = loadManifest(values.model);
  const exits = manifest.exits.map(({ layer }) => layer);
  const deepest = exits.at(-1) ?? 0;
  const quality = (layer: number): number =>
    manifest.exits.find((exit) => exit.layer === layer)?.quality.agreement ?? layer / deepest;
  const fixed = positives('--fixed', values.fixed);
  const unknown = fixed.find((layer) => !exits.includes(layer));
  if (unknown !== undefined)
    throw new Error(`--fixed must be exits of the model (${exits.join(', ')}), got ${unknown}`);
  const sides = chosen(sidesOf(fixed, values.peer !== undefined));
  const slots = positive('--slots', values.slots);

  const { requests, lengthScale, threads, seed } = values;
  let record = earlier(file, { model: manifest.name, requests, lengthScale, threads, slots, seed });
  let setup = record.setup;
  await mkdir(values.out, { recursive: true });

  const ours = sides.filter(({ start }) => start === 'sortie');
  if (setup === null || ours.length > 0) {
    const sortie = await sortieServer(slots);
    try {
      if (setup === null) {
        const classes = await idleClasses(sortie, manifest.name, deepest, manifest.architecture);
        const sample = workload(trace, classes, manifest.architecture, 60);
        const headers = { 'x-exit-layer': String(deepest) };
        const perSecond = await closedLoop(sortie.url, manifest.name, sample.requests, sample.prompts, slots, headers);
        console.error(`full depth completes ${perSecond.toFixed(2)} requests/s with ${slots} clients`);
        setup = { perSecond, classes };
        record = { ...record, setup };
      }
      await runSides(sortie, ours);
    } finally {
      await sortie.stop();
    }
  }
  const theirs = sides.filter(({ start }) => start === 'peer');
  if (theirs.length > 0) {
    const peer = await llamaServer(slots);
    try {
      await runSides(peer, theirs);
    } finally {
      await peer.stop();
    }
  }

  async function runSides(server: Server, its: readonly Side[]): Promise<void> {
    if (setup === null) return;
    for (const arrivals of arrivalKinds()) {
      for (const load of positives('--loads', values.loads)) {
        const perSecond = load * setup.perSecond;
        const { requests, prompts } = workload(
          trace,
          setup.classes,
          manifest.architecture,
          positive('--requests', values.requests),
        );
        const times = arrivalTimes(requests.length, perSecond, arrivals, seeded(positive('--seed', values.seed) + 2));
        const timed = requests.map((request, i) => ({ ...request, arrivedAt: times[i] ?? 0 }));
        for (const side of its) {
          const sent = await openLoop(server.url, manifest.name, timed, prompts, side.headers);
          const run = { side: side.name, arrivals, load, perSecond, ...summaryOf(sent, quality, deepest) };
          record = withRun(record, run);
          console.error(lineOf(run));
          if (values.misses) sayMisses(sent);
          await writeFile(file, `${JSON.stringify(record, null, 2)}\n`);
          for (const [name, svg] of plots(record.runs)) await writeFile(join(values.out, name), svg);
        }
      }
    }
  }
}

async function sayRouterTime(): Promise<void> {
  const { cost } = parseCostFile(await calibrateCommand(values.model, positive('--threads', values.threads)));
  const time = routerTime(cost, depthShape(loadManifest(values.model)));
  const perStep = time.stepMs + time.arrivals * time.admitMs;
  const share = (stepMs: number): string =>
    `${((100 * time.stepMs) / stepMs).toFixed(2)}% (${((100 * perStep) / stepMs).toFixed(2)}%) of ${stepMs.toFixed(0)} ms`;
  console.error(
    `router, ${time.live} requests: ${time.stepMs.toFixed(2)} ms a step, ${time.admitMs.toFixed(2)} ms an arrival, ` +
      `${time.arrivals.toFixed(2)} of them a step; of a step (with arrivals): ` +
      `${share(time.shallowStepMs)} (shallowest), ${share(time.deepStepMs)} (deepest)`,
  );
}

function sortieServer(slots: number): Promise<Server> {
  const threads = String(positive('--threads', values.threads));
  return startSortie(values.model, ['--threads', threads, '--max-running', String(slots), '--max-queue', '100000']);
}

function llamaServer(slots: number): Promise<Server> {
  const { peer = '', peerModel = '', peerAttention: attention } = values;
  return startPeer(peer, peerModel, { threads: positive('--threads', values.threads), slots, attention });
}

function sayMisses(sent: readonly Sent[]): void {
  for (const { request, answer } of sent.filter((each) => each.answer.feasible === true && !isMet(each))) {
    const { id, budgetClass, promptLength, maxTokens, budget } = request;
    console.error(
      `  ${id} ${budgetClass} prompt ${promptLength} tokens ${answer.tokens}/${maxTokens} budget ${(budget?.totalMs ?? 0).toFixed(0)}`,
      `took ${answer.totalMs.toFixed(0)} (server says ${answer.actualMs?.toFixed(0) ?? '-'}, queue ${answer.queueMs?.toFixed(0) ?? '-'})`,
      `ttft ${answer.ttftMs?.toFixed(0) ?? '-'} predicted ${answer.predictedMs?.toFixed(0) ?? '-'} exits ${JSON.stringify(answer.exits)}`,
    );
  }
}

/** The same requests for every side: lengths and classes from the trace, prompts of their own. */
function workload(
  trace: readonly TraceEntry[],
  classes: readonly BudgetClass[],
  { vocab: vocabulary, context }: Architecture,
  limit: number,
) {
  const seed = positive('--seed', values.seed);
  const scale = {
    speed: 1,
    length: positive('--length-scale', values.lengthScale),
    limit,
    maxLength: Math.min(1000, context),
  };
  const requests: SimulatedRequest[] = requestsOf(trace, classes, scale, seeded(seed));
  const random = seeded(seed + 1);
  return { requests, prompts: requests.map(({ promptLength }) => promptOf(promptLength, random, vocabulary)) };
}

/** Budget classes by what full depth takes on this machine while it is idle. */
async function idleClasses(
  server: Server,
  model: string,
  deepest: number,
  { vocab: vocabulary, context }: Architecture,
): Promise<BudgetClass[]> {
  const prefill: number[] = [];
  const decode: number[] = [];
  for (let i = 0; i < 7; i += 1) {
    const prompt = promptOf(Math.min(256, context >> 1), seeded(100 + i), vocabulary);
    const headers = { 'x-exit-layer': String(deepest) };
    const { ttftMs, totalMs, tokens, status } = await complete(server.url, model, { prompt, maxTokens: 48, headers });
    if (ttftMs === null || tokens < 2) throw new Error(`the server answered ${status} without tokens`);
    prefill.push(ttftMs / prompt.length);
    decode.push((totalMs - ttftMs) / (tokens - 1));
  }
  console.error(
    `idle, full depth: ${median(prefill).toFixed(3)} ms per prompt token, ${median(decode).toFixed(2)} per token`,
  );
  return classesFor(median(prefill), median(decode));
}

const percent = (share: number | null): string => (share === null ? '-' : `${(100 * share).toFixed(1)}%`);

function lineOf(run: Run): string {
  return [
    `${run.arrivals} ${run.load}x ${run.side}: ${percent(run.attainment)} in budget`,
    `of feasible ${percent(run.attainmentOfFeasible)}`,
    `quality ${run.meanQuality.toFixed(3)}`,
    `goodput ${run.goodput.toFixed(2)}/s`,
    `ttft p99 ${run.ttftP99Ms.toFixed(0)} ms`,
    `prediction error ${percent(run.predictionError)}`,
    `latest ${run.latestMs.toFixed(0)} ms`,
    `failed ${run.failed}`,
  ].join(', ');
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});

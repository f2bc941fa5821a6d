/**
 * Goodput under load, over HTTP: Sortie routed by budgets, Sortie at fixed depths, and with --peer llama-server.
 *
 *   npm run bench:goodput -- --trace FILE [--out DIR] [--peer DIR --peer-model FILE] [--loads 0.5,0.8,1,1.5,2] ...
 *
 * Every side gets the same requests at the same instants. Load 1 is what full depth completes with clients that never
 * pause. Budgets are 2, 4 and 10 times what full depth alone takes on the idle machine. Writes goodput.json,
 * attainment.svg (against load) and quality.svg (mean quality against attainment).
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { packageRoot } from '../src/config.js';
import type { Architecture } from '../src/model/manifest.js';
import { loadManifest } from '../src/model/manifest-io.js';
import type { BudgetClass } from '../src/simulate/workload.js';
import { classesFor, requestsOf, seeded } from '../src/simulate/workload.js';
import type { SimulatedRequest } from '../src/simulate/request.js';
import { svgOf } from '../src/simulate/plot.js';
import { type TraceEntry, parseTrace } from '../src/simulate/trace.js';
import { complete } from './goodput/client.js';
import { type Arrivals, arrivalTimes, closedLoop, openLoop, promptOf } from './goodput/load.js';
import { type Server, type Side, sidesOf, startServer } from './goodput/side.js';
import { type Summary, summaryOf } from './goodput/summary.js';
import { peerProgram } from './peer-side.js';
import { median } from './stats.js';

interface Options {
  readonly trace: string;
  readonly out: string;
  readonly model: string;
  readonly peer?: string;
  readonly peerModel?: string;
  readonly loads: string;
  readonly arrivals: string;
  readonly fixed: string;
  readonly requests: string;
  readonly lengthScale: string;
  readonly threads: string;
  readonly slots: string;
  readonly seed: string;
}

const values = new Command('bench:goodput')
  .description('attainment, quality and goodput under load, over HTTP: routed, fixed depths, llama-server')
  .requiredOption('--trace <file>', 'CSV in the format of the Azure LLM inference traces')
  .option('--out <dir>', 'where the JSON and the plots go', 'runs/goodput')
  .option('--model <dir>', 'model folder', join(packageRoot, 'models', 'smollm2-135m-sorted'))
  .option('--peer <dir>', 'a build of llama.cpp: runs its llama-server, too')
  .option('--peer-model <file>', 'GGUF file for the peer')
  .option('--loads <list>', 'multiples of what full depth completes', '0.5,0.8,1,1.5,2')
  .option('--arrivals <list>', 'poisson, bursty or both', 'poisson,bursty')
  .option('--fixed <list>', 'exits of the sides that serve one depth', '30,20,10')
  .option('--requests <n>', 'requests of each run', '150')
  .option('--length-scale <x>', 'factor on the lengths of the trace', '0.2')
  .option('--threads <n>', 'compute threads of every side', '2')
  .option('--slots <n>', 'sequences at once, of every side', '16')
  .option('--seed <n>', 'seed of arrivals and budgets', '1')
  .parse()
  .opts<Options>();

/** @throws Error naming the option, its rule and the value */
function positive(name: 'requests' | 'lengthScale' | 'threads' | 'slots' | 'seed'): number {
  const value = Number(values[name]);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new Error(`--${name} must be a positive number, got "${values[name]}"`);
}

function numbers(name: 'loads' | 'fixed'): number[] {
  const list = values[name].split(',').map(Number);
  if (list.every((value) => value > 0)) return list;
  throw new Error(`--${name} must be positive numbers separated by commas, got "${values[name]}"`);
}

function arrivalKinds(): Arrivals[] {
  return values.arrivals.split(',').map((kind) => {
    if (kind === 'poisson' || kind === 'bursty') return kind;
    throw new Error(`--arrivals must be poisson, bursty or both, got "${values.arrivals}"`);
  });
}

interface Run extends Summary {
  readonly side: string;
  readonly arrivals: Arrivals;
  readonly load: number;
  readonly perSecond: number;
}

const LIMIT_MS = 120_000;

async function main(): Promise<void> {
  if ((values.peer === undefined) !== (values.peerModel === undefined)) {
    throw new Error('--peer DIR and --peer-model FILE go together');
  }
  const trace = parseTrace(await readFile(values.trace, 'utf8'));
  const manifest = loadManifest(values.model);
  const exits = manifest.exits.map(({ layer }) => layer);
  const deepest = exits.at(-1) ?? 0;
  const quality = (layer: number): number =>
    manifest.exits.find((exit) => exit.layer === layer)?.quality.agreement ?? layer / deepest;
  const fixed = numbers('fixed');
  const unknown = fixed.find((layer) => !exits.includes(layer));
  if (unknown !== undefined)
    throw new Error(`--fixed must be exits of the model (${exits.join(', ')}), got ${unknown}`);
  const sides = sidesOf(fixed, values.peer !== undefined);

  const threads = String(positive('threads'));
  const slots = positive('slots');
  const sortie = await startServer(
    [
      process.execPath,
      fileURLToPath(new URL('../src/main.js', import.meta.url)),
      ...['serve', '--port', 'PORT', '--host', '127.0.0.1', '--model', values.model, '--threads', threads],
      ...['--max-running', String(slots), '--max-queue', '100000', '--log-level', 'error'],
    ],
    '/health/ready',
    LIMIT_MS,
  );
  let perSecond = 0;
  let classes: BudgetClass[] = [];
  const runs: Run[] = [];
  try {
    classes = await idleClasses(sortie, manifest.name, deepest, manifest.architecture);
    const { requests, prompts } = workload(trace, classes, manifest.architecture, 60);
    perSecond = await closedLoop(sortie.url, manifest.name, requests, prompts, slots, {
      'x-exit-layer': String(deepest),
    });
    console.error(`full depth completes ${perSecond.toFixed(2)} requests/s with ${slots} clients`);
    await runSides(
      sortie,
      sides.filter(({ start }) => start === 'sortie'),
    );
  } finally {
    await sortie.stop();
  }
  if (values.peer !== undefined && values.peerModel !== undefined) {
    const program = peerProgram(values.peer, 'llama-server');
    const context = String(slots * 1024);
    const peer = await startServer(
      [
        program,
        '-m',
        values.peerModel,
        '-t',
        threads,
        '-np',
        String(slots),
        '-c',
        context,
        '--port',
        'PORT',
        '--no-ui',
      ],
      '/health',
      LIMIT_MS,
    );
    try {
      await runSides(
        peer,
        sides.filter(({ start }) => start === 'peer'),
      );
    } finally {
      await peer.stop();
    }
  }

  await mkdir(values.out, { recursive: true });
  await writeFile(
    join(values.out, 'goodput.json'),
    `${JSON.stringify({ options: values, perSecond, classes, runs }, null, 2)}\n`,
  );
  for (const [file, svg] of plots(runs)) await writeFile(join(values.out, file), svg);

  async function runSides(server: Server, its: readonly Side[]): Promise<void> {
    for (const arrivals of arrivalKinds()) {
      for (const load of numbers('loads')) {
        const { requests, prompts } = workload(trace, classes, manifest.architecture, positive('requests'));
        const times = arrivalTimes(requests.length, load * perSecond, arrivals, seeded(positive('seed') + 2));
        const timed = requests.map((request, i) => ({ ...request, arrivedAt: times[i] ?? 0 }));
        for (const side of its) {
          const sent = await openLoop(server.url, manifest.name, timed, prompts, side.headers);
          const run = {
            side: side.name,
            arrivals,
            load,
            perSecond: load * perSecond,
            ...summaryOf(sent, quality, deepest),
          };
          runs.push(run);
          console.error(lineOf(run));
        }
      }
    }
  }
}

/** The same requests for every side: lengths and classes from the trace, prompts of their own. */
function workload(
  trace: readonly TraceEntry[],
  classes: readonly BudgetClass[],
  { vocab: vocabulary, context }: Architecture,
  limit: number,
) {
  const seed = positive('seed');
  const scale = { speed: 1, length: positive('lengthScale'), limit, maxLength: Math.min(1000, context) };
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
    `failed ${run.failed}`,
  ].join(', ');
}

function plots(runs: readonly Run[]): [file: string, svg: string][] {
  const keys = [...new Set(runs.map(({ side, arrivals }) => `${side}, ${arrivals}`))];
  const series = (point: (run: Run) => readonly [number, number]) =>
    keys.map((name) => ({
      name,
      points: runs.filter(({ side, arrivals }) => `${side}, ${arrivals}` === name).map(point),
    }));
  return [
    [
      'attainment.svg',
      svgOf({
        title: 'Requests inside their latency budget against load',
        x: 'load, multiples of full-depth capacity',
        y: 'attainment',
        yRange: [0, 1],
        series: series(({ load, attainment }) => [load, attainment]),
      }),
    ],
    [
      'quality.svg',
      svgOf({
        title: 'Mean quality of tokens against attainment',
        x: 'attainment',
        y: 'mean agreement with full depth',
        series: series(({ attainment, meanQuality }) => [attainment, meanQuality]),
      }),
    ],
  ];
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});

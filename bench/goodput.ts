/**
 * Goodput under load over HTTP: Sortie routed by budgets, Sortie at fixed depths, and with --peer llama-server.
 * Requests carry only the information of a client; `--lengths stated` adds the exact length of each answer.
 *
 *   npm run bench:goodput -- --questions FILE [--out DIR] [--peer DIR --peer-model FILE] [--loads 0.5,0.8,1,1.5,2] ...
 *   npm run bench:goodput -- --lengths stated --trace FILE ...
 *
 * - Every side gets the same requests at the same instants.
 * - Natural lengths: chat questions without a limit. Stated lengths: exactly the tokens of a trace.
 * - Load 1 is the throughput of full depth with clients that never pause.
 * - Answers are greedy. Sortie's have the DRY rule of their exit, and llama-server's have none.
 * - Budgets are 2, 4 and 10 times the time of full depth on the idle machine.
 *
 * Writes goodput.json, attainment.svg (against load) and quality.svg (mean quality against attainment). A later call
 * with the same options adds its sides, loads and arrivals to these files, so a long bench can run in pieces.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../src/config.js';
import { calibrateCommand } from '../src/engine/calibration/command.js';
import { loadManifest } from '../src/model/manifest-io.js';
import { depthShape } from '../src/cost/model.js';
import { parseCostFile } from '../src/simulate/costs.js';
import { arrivalTimes } from '../src/load/arrivals.js';
import { closedLoop, openLoop } from '../src/load/run.js';
import { seeded } from '../src/util/random.js';
import { lineOf, missLines } from './goodput/lines.js';
import { sender } from './goodput/job.js';
import { plots } from './goodput/plots.js';
import { type Record as BenchRecord, type Traffic, earlier, withRun } from './goodput/record.js';
import { routerTime } from './goodput/router-time.js';
import { measureSetup } from './goodput/setup.js';
import { type Side, sidesOf } from './goodput/side.js';
import { type Source, naturalSource, statedSource } from './goodput/source.js';
import { qualityIn, summaryOf } from './goodput/summary.js';
import { positive, positives } from './options.js';
import { type Server, startPeer, startSortie } from './server.js';

interface Options {
  readonly lengths: string;
  readonly questions?: string;
  readonly keep: string;
  readonly trace?: string;
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
  .option('--lengths <kind>', 'natural (the model ends its answers) or stated (exact lengths from a trace)', 'natural')
  .option(
    '--questions <file>',
    'natural lengths: JSON array of {instruction, input}, or text with one question per line',
  )
  .option('--keep <n>', 'natural lengths: most questions to keep', '60')
  .option('--trace <file>', 'stated lengths: CSV in the format of the Azure LLM inference traces')
  .option('--out <dir>', 'folder for the JSON and the plots', 'runs/goodput')
  .option('--model <dir>', 'model folder', join(packageRoot, 'models', 'smollm2-135m-sorted'))
  .option('--peer <dir>', 'a build of llama.cpp, to run its llama-server as well')
  .option('--peer-model <file>', 'GGUF file for the peer')
  .option(
    '--peer-attention <mode>',
    "the peer's flash attention: on, off or auto; bench:engine shows which is faster",
    'auto',
  )
  .option('--loads <list>', 'multiples of the throughput of full depth', '0.5,0.8,1,1.5,2')
  .option('--arrivals <list>', 'some of poisson, bursty and closed (clients that never pause)', 'poisson,bursty')
  .option('--fixed <list>', 'exits of the fixed sides', '30,20,10')
  .option(
    '--sides <list>',
    'sides to run: routed, truncate, "fixed 30", "capped 30", llama-server ...; default: all but capped',
  )
  .option('--requests <n>', 'requests per run', '120')
  .option('--length-scale <x>', 'stated lengths: factor on the lengths of the trace', '0.1')
  .option('--threads <n>', 'compute threads of every side', '2')
  .option('--slots <n>', 'concurrent sequences of every side', '16')
  .option('--seed <n>', 'seed of arrivals and budgets', '1')
  .option('--misses', 'print every request that missed its budget', false)
  .option('--router-time', "measure only the router's time for a step with 64 requests", false)
  .parse()
  .opts<Options>();

function trafficKinds(): Traffic[] {
  return values.arrivals.split(',').map((kind) => {
    if (kind === 'poisson' || kind === 'bursty' || kind === 'closed') return kind;
    throw new Error(`--arrivals must be some of poisson, bursty and closed, got "${values.arrivals}"`);
  });
}

function chosen(sides: readonly Side[]): Side[] {
  if (values.sides === undefined) return sides.filter(({ byNameOnly }) => byNameOnly !== true);
  const names = sides.map(({ name }) => name);
  return values.sides.split(',').map((name) => {
    const side = sides.find((each) => each.name === name.trim());
    if (side === undefined) throw new Error(`--sides must be some of ${names.join(', ')}, got "${name}"`);
    return side;
  });
}

/** @throws Error that names a missing or wrong option */
function sourceOf({ lengths, questions, trace, keep, lengthScale }: Options): Source {
  const seed = positive('--seed', values.seed);
  if (lengths === 'natural') {
    if (questions === undefined) throw new Error('--questions FILE must be given with --lengths natural');
    return naturalSource(questions, positive('--keep', keep), seed);
  }
  if (lengths !== 'stated') throw new Error(`--lengths must be natural or stated, got "${lengths}"`);
  if (trace === undefined) throw new Error('--trace FILE must be given with --lengths stated');
  console.error("oracle: requests tell the router their answer's exact length, which no client does");
  return statedSource(trace, positive('--length-scale', lengthScale), seed);
}

const file = join(values.out, 'goodput.json');

async function main(): Promise<void> {
  if ((values.peer === undefined) !== (values.peerModel === undefined)) {
    throw new Error('--peer DIR and --peer-model FILE must be given together');
  }
  if (values.routerTime) {
    await sayRouterTime();
    return;
  }
  const source = sourceOf(values);
  const manifest = loadManifest(values.model);
  const exits = manifest.exits.map(({ layer }) => layer);
  const deepest = exits.at(-1) ?? 0;
  const fixed = positives('--fixed', values.fixed);
  const unknown = fixed.find((layer) => !exits.includes(layer));
  if (unknown !== undefined)
    throw new Error(`--fixed must be exits of the model (${exits.join(', ')}), got ${unknown}`);
  const sides = chosen(sidesOf(fixed, values.peer !== undefined));
  const slots = positive('--slots', values.slots);

  let record = earlier<BenchRecord>(file, {
    options: { model: manifest.name, ...comparable(), slots },
    setup: null,
    runs: [],
  });
  let setup = record.setup;
  await mkdir(values.out, { recursive: true });

  const ours = sides.filter(({ start }) => start === 'sortie');
  if (setup === null || ours.length > 0) {
    const sortie = await sortieServer(slots);
    try {
      if (setup === null) {
        setup = await measureSetup(sortie.url, manifest, source, slots);
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

  async function runSides({ url }: Server, its: readonly Side[]): Promise<void> {
    if (setup === null) return;
    const jobs = source.jobs(setup.idle, manifest, positive('--requests', values.requests));
    for (const arrivals of trafficKinds()) {
      for (const load of arrivals === 'closed' ? [null] : positives('--loads', values.loads)) {
        const perSecond = load === null ? null : load * setup.perSecond;
        for (const { name, headers } of its) {
          const send = sender(url, manifest.name, headers);
          const sent =
            arrivals === 'closed' || perSecond === null
              ? await closedLoop(send, jobs, 2 * slots)
              : await openLoop(send, jobs, arrivalTimes(jobs.length, perSecond, arrivals, random()));
          const run = { side: name, arrivals, load, perSecond, ...summaryOf(sent, qualityIn(manifest), deepest) };
          record = withRun(record, run);
          console.error(lineOf(run));
          if (values.misses) for (const line of missLines(sent)) console.error(line);
          await writeFile(file, `${JSON.stringify(record, null, 2)}\n`);
          for (const [plot, svg] of plots(record.runs)) await writeFile(join(values.out, plot), svg);
        }
      }
    }
  }
}

/** Random numbers for the arrivals, the same for every side. */
const random = (): (() => number) => seeded(positive('--seed', values.seed) + 2);

/** Options that must be equal for two runs to compare; the options of the other kind of lengths are left out. */
function comparable(): Record<string, string | undefined> {
  const { lengths, questions, keep, trace, lengthScale, requests, threads, seed } = values;
  const kind = lengths === 'natural' ? { questions, keep } : { trace, lengthScale };
  return { lengths, ...kind, requests, threads, seed };
}

async function sayRouterTime(): Promise<void> {
  const { cost } = parseCostFile(
    await calibrateCommand(values.model, { threads: positive('--threads', values.threads) }),
  );
  const time = routerTime(cost, depthShape(loadManifest(values.model)));
  const perStep = time.stepMs + time.arrivals * time.admitMs;
  const share = (stepMs: number): string =>
    `${((100 * time.stepMs) / stepMs).toFixed(2)}% (${((100 * perStep) / stepMs).toFixed(2)}%) of ${stepMs.toFixed(0)} ms`;
  console.error(
    `router, ${time.live} requests: ${time.stepMs.toFixed(2)} ms per step, ${time.admitMs.toFixed(2)} ms per arrival, ` +
      `${time.arrivals.toFixed(2)} arrivals per step; share of a step (with arrivals): ` +
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

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});

/**
 * `sortie simulate`: replays a trace against measured costs, to size a deployment. By default the router gets
 * only the information of a client: prompt length and budget. `--limits stated` adds the exact length of each answer.
 */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { type CostModel, costModel, predictMs } from '../cost/model.js';
import { loadPlot } from '../load/plot.js';
import { hasBudgets, parseTrace, type TraceEntry } from '../load/trace.js';
import { type Policy, Router, chunkSizes, defaultPolicy } from '../scheduler/router.js';
import { checkWritable } from '../util/output-file.js';
import { seeded } from '../util/random.js';
import { SERVE_OPTIONS } from '../config.js';
import { type CostFile, parseCostFile } from './costs.js';
import type { Machine } from './engine.js';
import { noisy } from './noise.js';
import type { SimulateOptions } from './options.js';
import { balancerOf } from './balance.js';
import { simulateFleet } from './replicas.js';
import { isMet, type Report, reportOf } from './report.js';
import type { SimulatedRequest } from './request.js';
import { requestsOf, type TokenTimes } from './workload.js';

export interface SpeedReport extends Report {
  readonly speed: number;
  /** The report is of `SimulateOptions.replicas`. This is the least number that reaches the target; null if maxReplicas are too few. */
  readonly replicas: number | null;
  /** Requests whose answer broke off with its server. */
  readonly lost: number;
  /** Why no number of replicas reaches the target; absent if one does. */
  readonly shortfall?: Shortfall;
}

export interface Shortfall {
  /** Share of budgets kept by `maxReplicas`. */
  readonly attainment: number;
  readonly missed: number;
  /** Missed requests that an idle server misses as well. */
  readonly missedAlone: number;
}

type FleetReport = Omit<SpeedReport, 'speed' | 'replicas'>;

/** Runs the simulation and writes the requested files. `say` receives progress lines. @returns one report per speed */
export async function simulateCommand(
  options: SimulateOptions,
  say: (line: string) => void = console.error,
): Promise<SpeedReport[]> {
  const trace = parseTrace(await read('--trace', options.trace));
  const costs = parseCostFile(await read('--cost', options.cost));
  // A simulation may take minutes, so check the output files first.
  await checkWritable('--out', options.out);
  await checkWritable('--plot', options.plot);
  await checkDistinct({
    '--trace': options.trace,
    '--cost': options.cost,
    '--out': options.out,
    '--plot': options.plot,
  });
  const reportAt = simulation(options, trace, costs);
  say(budgetsLine(trace.slice(0, options.limit)));
  const reports: SpeedReport[] = [];
  for (const speed of options.speeds) {
    const report = reportAt(speed);
    reports.push(report);
    say(lineOf(options, report));
  }
  if (options.out !== null) await writeFile(options.out, `${JSON.stringify({ options, reports }, null, 2)}\n`);
  if (options.plot !== null) {
    const runs = reports.map((report) => ({ load: report.speed, summary: report }));
    const title = 'Simulated: requests in budget, and mean depth';
    const svg = loadPlot(title, 'arrival rate, multiples of the trace', runs, {
      name: 'mean depth',
      y: 'mean exit layer of the tokens',
      most: costs.shape.exits.at(-1)?.layer ?? null,
      valueOf: ({ meanExit }) => meanExit,
    });
    await writeFile(options.plot, svg);
  }
  return reports;
}

/** @returns gives the report of the trace at a speed. @throws Error if no exit has the least quality */
function simulation(options: SimulateOptions, trace: readonly TraceEntry[], { cost, shape }: CostFile) {
  const model = costModel(cost, shape);
  const minExit = leastExit(options.minQuality, shape.exits);
  const times = fullDepthTimes(model);
  const policy: Policy = { ...defaultPolicy, chunks: chunkSizes(options.prefillChunk) };
  const requestsAt = (speed: number): SimulatedRequest[] => {
    const scale = { speed, length: options.lengthScale, limit: options.limit, maxLength: options.maxLength };
    const random = seeded(options.seed);
    const requests = requestsOf(trace, times, scale, random, shape.exits.length, options.limits);
    return requests.map((request) => ({ ...request, minExit }));
  };
  const runOf = (requests: readonly SimulatedRequest[], replicas: number) => {
    const { slots, kvPositions, overheadMs } = options;
    const machines = Array.from({ length: replicas }, (_, replica): Machine => {
      const noise = noisy({ step: options.noise, spellEveryS: options.slowSpells }, seeded(options.seed + 1 + replica));
      return { slots, kvPositions, overheadMs, actual: (work, now) => noise(predictMs(model, work), now) };
    });
    const gone = Math.min(replicas - 1, Math.ceil(options.lose * replicas));
    const halfway = requests[requests.length >> 1]?.arrivedAt ?? 0;
    return simulateFleet(requests, {
      ...{ machines, routerOf: () => new Router(shape, cost, policy), costs: model, policy },
      balancer: balancerOf(options.balance, seeded(options.seed)),
      ...(gone > 0 && { loss: { at: halfway, servers: Array.from({ length: gone }, (_, i) => i) } }),
    });
  };
  const runAt = (speed: number, replicas: number): FleetReport => {
    const { outcomes, lost } = runOf(requestsAt(speed), replicas);
    const report = reportOf(outcomes, shape);
    const served = outcomes.length / Math.max(1, outcomes.length + lost.length);
    return { ...report, attainment: report.attainment * served, lost: lost.length };
  };
  const shortfallAt = (speed: number): Shortfall => {
    const { outcomes, lost } = runOf(requestsAt(speed), options.maxReplicas);
    const missed = outcomes.filter((outcome) => !isMet(outcome));
    const missedAlone = missed.filter(({ request }) => !runOf([request], 1).outcomes.every(isMet)).length;
    const all = outcomes.length + lost.length;
    return { attainment: (outcomes.length - missed.length) / all, missed: missed.length + lost.length, missedAlone };
  };
  return (speed: number): SpeedReport => {
    const report = runAt(speed, options.replicas);
    const replicas = leastReplicas(options, (count) => (count === options.replicas ? report : runAt(speed, count)));
    return { speed, replicas, ...report, ...(replicas === null && { shortfall: shortfallAt(speed) }) };
  };
}

function fullDepthTimes(model: CostModel): TokenTimes {
  const { length } = model.shape.exits;
  const chunk = { exit: length - 1, positions: 128, context: 0, chunk: 128 };
  const rows = new Array<number>(length).fill(0).with(-1, 1);
  return {
    perPromptToken: predictMs(model, { decode: null, prefill: [chunk] }) / chunk.positions,
    perOutputToken: predictMs(model, { decode: { rows, context: 256 }, prefill: [] }),
  };
}

/** The shallowest exit that the router may choose: of this quality, and with enough right answers; null for any. */
function leastExit(quality: number | null, exits: CostModel['shape']['exits']): number | null {
  const useful = exits.find(({ right }) => right >= SERVE_OPTIONS.minRight.default)?.layer;
  return Math.max(exitOfQuality(quality, exits) ?? 0, useful ?? 0) || null;
}

/** The shallowest exit of at least this quality; null for any. @throws Error if there is none */
function exitOfQuality(least: number | null, exits: CostModel['shape']['exits']): number | null {
  if (least === null) return null;
  const found = exits.find(({ quality }) => quality >= least);
  if (found !== undefined) return found.layer;
  const best = Math.max(...exits.map(({ quality }) => quality));
  throw new Error(`--min-quality must be at most ${best}, the best quality of the exits, got "${least}"`);
}

/** @throws Error that names the option; the system's own error names no file if a folder is read */
async function read(option: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${option} must be a readable file, got "${file}" (${code ?? 'unreadable'})`, { cause: error });
  }
}

/** @throws Error that names two options with the same file: the later output would replace the other content */
async function checkDistinct(files: Readonly<Record<string, string | null>>): Promise<void> {
  const options = new Map<string, string>();
  for (const [option, file] of Object.entries(files)) {
    if (file === null) continue;
    const stats = await stat(file);
    // A terminal or a pipe holds no content to lose.
    if (!stats.isFile()) continue;
    const id = `${stats.dev}:${stats.ino}`;
    const other = options.get(id);
    if (other !== undefined) throw new Error(`${option} must be another file than ${other}, got "${file}"`);
    options.set(id, option);
  }
}

/** Doubles the replicas until they reach the target, then bisects: attainment rises with replicas. */
function leastReplicas({ target, maxReplicas }: SimulateOptions, runWith: (replicas: number) => Report): number | null {
  if (runWith(1).attainment >= target) return 1;
  let low = 1;
  let high = 2;
  while (runWith(Math.min(high, maxReplicas)).attainment < target) {
    if (high >= maxReplicas) return null;
    low = high;
    high *= 2;
  }
  high = Math.min(high, maxReplicas);
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (runWith(middle).attainment >= target) high = middle;
    else low = middle;
  }
  return high;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;

function lineOf({ target, replicas: simulated, maxReplicas }: SimulateOptions, report: SpeedReport): string {
  const classes = report.classes.map(({ name, attainment }) => `${name} ${percent(attainment)}`).join(', ');
  return [
    `speed ${report.speed}${simulated === 1 ? '' : `, ${simulated} replicas`}: ${percent(report.attainment)} inside their budgets (${classes})`,
    `goodput ${report.goodput.toFixed(2)}/s, mean depth ${report.meanExit?.toFixed(1) ?? '-'}`,
    ...(report.lost > 0 ? [`${report.lost} answers broke off`] : []),
    report.shortfall === undefined
      ? `${report.replicas} replica(s) for ${percent(target)}`
      : `no number of replicas up to ${maxReplicas} reaches ${percent(target)}: ${shortfallText(report.shortfall, maxReplicas)}`,
  ].join('; ');
}

function shortfallText({ attainment, missed, missedAlone }: Shortfall, maxReplicas: number): string {
  const reached = `${maxReplicas} reach ${percent(attainment)}`;
  if (missedAlone === 0)
    return `${reached}, and an idle server keeps each budget, so more replicas help (--max-replicas)`;
  return (
    `${reached}; of the ${missed} requests that miss, ${missedAlone} miss on an idle server too: ` +
    'their budgets need a faster machine, or a lower --min-quality'
  );
}

/** Names the source of the budgets. */
function budgetsLine(trace: readonly TraceEntry[]): string {
  if (!hasBudgets(trace)) return 'budgets: made up in three classes, because the trace has none';
  const stated = trace.filter(({ budget }) => budget != null).length;
  return `budgets: those of the log; ${stated} of ${trace.length} requests state a budget`;
}

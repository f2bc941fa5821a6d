/**
 * `sortie simulate`: replays a trace against measured costs, to size a deployment. By default the scheduler gets
 * only the information of a client: prompt length and budget. `--limits stated` adds the exact length of each answer.
 */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { type CostModel, type Work, costModel, deepestOf, predictMs } from '../../src/engine/scheduler/cost/model.js';
import { loadPlot } from '../../bench/loadgen/plot.js';
import { hasBudgets, parseTrace, type TraceEntry } from '../../bench/loadgen/trace.js';
import { type Policy, chunkSizes, defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { checkWritable } from '../../src/util/output-file.js';
import { seeded } from '../../src/util/random.js';
import { SERVE_OPTIONS } from '../../src/cli/options/config.js';
import { type CostFile, parseCostFile } from './costs.js';
import { type Outcome, simulate } from './simulated-engine.js';
import { simulatedScheduler } from './machine.js';
import { noisy } from './noise.js';
import type { SimulateOptions } from './simulate-options.js';
import { type Report, reportOf } from './simulate-report.js';
import type { SimulatedRequest } from './simulated-request.js';
import { requestsOf, type TokenTimes } from './workload.js';

export interface SpeedReport extends Report {
  readonly speed: number;
}

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
    say(lineOf(report));
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
  return (speed: number): SpeedReport => {
    const { slots, kvPositions, overheadMs } = options;
    const noise = noisy({ step: options.noise, spellEveryS: options.slowSpells }, seeded(options.seed + 1));
    const machine = {
      slots,
      kvPositions,
      overheadMs,
      actual: (work: Work, now: number) => noise(predictMs(model, work), now),
    };
    const scheduler = simulatedScheduler(machine, { shape, table: cost, policy });
    const steps = simulate(requestsAt(speed), machine, scheduler);
    return { speed, ...reportOf(outcomesOf(steps), shape) };
  };
}

/** Runs a simulation to its end. */
function outcomesOf(steps: ReturnType<typeof simulate>): Outcome[] {
  for (let next = steps.next(); ; next = steps.next()) if (next.done === true) return next.value;
}

function fullDepthTimes(model: CostModel): TokenTimes {
  const exit = deepestOf(model.shape);
  const chunk = { exit, positions: 128, context: 0, chunk: 128 };
  const rows = new Array<number>(model.shape.exits.length).fill(0).with(exit, 1);
  return {
    perPromptToken: predictMs(model, { decode: null, prefill: [chunk] }) / chunk.positions,
    perOutputToken: predictMs(model, { decode: { rows, context: 256 }, prefill: [] }),
  };
}

/** The shallowest exit that the scheduler may choose: of this quality, and with enough right answers; null for any. */
function leastExit(quality: number | null, exits: CostModel['shape']['exits']): number | null {
  const useful = exits.find(({ right }) => right >= SERVE_OPTIONS.minAccuracy.default)?.layer;
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

const percent = (share: number): string => `${(100 * share).toFixed(1)}%`;

function lineOf({ speed, attainment, classes, goodput, meanExit }: SpeedReport): string {
  const parts = classes.map((each) => `${each.name} ${percent(each.attainment)}`).join(', ');
  return (
    `speed ${speed}: ${percent(attainment)} inside their budgets (${parts}); ` +
    `goodput ${goodput.toFixed(2)}/s, mean depth ${meanExit?.toFixed(1) ?? '-'}`
  );
}

/** Names the source of the budgets. */
function budgetsLine(trace: readonly TraceEntry[]): string {
  if (!hasBudgets(trace)) return 'budgets: made up in three classes, because the trace has none';
  const stated = trace.filter(({ budget }) => budget != null).length;
  return `budgets: those of the log; ${stated} of ${trace.length} requests state a budget`;
}

/**
 * `sortie simulate`: sizes a deployment before it is bought, by replaying a trace against measured costs.
 *
 * Knows: files, progress, the parts of a simulation. Must not know: command-line flags (cli), the real engine.
 */
import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { type CostModel, costModel, predictMs } from '../cost/model.js';
import { type Policy, Router, chunkSizes, defaultPolicy } from '../router/index.js';
import { parseCostFile } from './costs.js';
import { type Machine, simulate } from './engine.js';
import { noisy } from './noise.js';
import type { SimulateOptions } from './options.js';
import { svgOf } from './plot.js';
import { type Report, reportOf } from './report.js';
import type { SimulatedRequest } from './request.js';
import { parseTrace } from './trace.js';
import { classesFor, requestsOf, seeded } from './workload.js';

export interface SpeedReport extends Report {
  readonly speed: number;
  /** Least number of replicas that reach the target; null where even maxReplicas don't. */
  readonly replicas: number | null;
}

/** Runs the simulation and writes what was asked for. `say` receives lines for people. @returns one report per speed */
export async function simulateCommand(
  options: SimulateOptions,
  say: (line: string) => void = console.error,
): Promise<SpeedReport[]> {
  const trace = parseTrace(await read('--trace', options.trace));
  const { cost, shape } = parseCostFile(await read('--cost', options.cost));
  // A simulation may take minutes: they are not to be lost for want of a place.
  await checkWritable('--out', options.out);
  await checkWritable('--plot', options.plot);
  await checkDistinct({
    '--trace': options.trace,
    '--cost': options.cost,
    '--out': options.out,
    '--plot': options.plot,
  });
  const model = costModel(cost, shape);
  const policy: Policy = { ...defaultPolicy, chunks: chunkSizes(options.prefillChunk) };
  const one = new Array<number>(shape.exits.length).fill(0).with(-1, 1);
  const chunk = { exit: shape.exits.length - 1, positions: 128, context: 0, chunk: 128 };
  const classes = classesFor(
    predictMs(model, { decode: null, prefill: [chunk] }) / 128,
    predictMs(model, { decode: { rows: one, context: 256 }, prefill: [] }),
  );

  const runAt = (speed: number, replicas: number): Report => {
    const scale = { speed, length: options.lengthScale, limit: options.limit, maxLength: options.maxLength };
    const requests = requestsOf(trace, classes, scale, seeded(options.seed), shape.exits.length, options.limits);
    const { slots, kvPositions, overheadMs } = options;
    // Replicas behind a balancer that deals requests out in turn.
    const outcomes = Array.from({ length: replicas }, (_, replica) => {
      const noise = noisy({ step: options.noise, spellEveryS: options.slowSpells }, seeded(options.seed + 1 + replica));
      const actual: Machine['actual'] = (work, now) => noise(predictMs(model, work), now);
      return drain(
        requests.filter((__, i) => i % replicas === replica),
        { slots, kvPositions, overheadMs, actual },
        new Router(shape, cost, policy),
        model,
        policy,
      );
    }).flat();
    return reportOf(outcomes, shape);
  };

  const reports: SpeedReport[] = [];
  for (const speed of options.speeds) {
    const report = runAt(speed, 1);
    const replicas = leastReplicas(options, report, (count) => runAt(speed, count));
    reports.push({ speed, replicas, ...report });
    say(lineOf(speed, report, replicas, options.target));
  }
  if (options.out !== null) await writeFile(options.out, `${JSON.stringify({ options, reports }, null, 2)}\n`);
  if (options.plot !== null) await writeFile(options.plot, plotOf(reports));
  return reports;
}

/** @throws Error that names the option: the system's own names no file where a folder is read. */
async function read(option: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${option} must be a readable file, got "${file}" (${code ?? 'unreadable'})`, { cause: error });
  }
}

/** Leaves what the file holds. @throws Error that names the option */
async function checkWritable(option: string, file: string | null): Promise<void> {
  if (file === null) return;
  try {
    await (await open(file, 'a')).close();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${option} must be a file that can be written, got "${file}" (${code ?? 'unwritable'})`, {
      cause: error,
    });
  }
}

/** @throws Error that names two options: what is written last would take the place of what else is in their file */
async function checkDistinct(files: Readonly<Record<string, string | null>>): Promise<void> {
  const options = new Map<string, string>();
  for (const [option, file] of Object.entries(files)) {
    if (file === null) continue;
    const stats = await stat(file);
    // A terminal or a pipe keeps nothing that could be lost.
    if (!stats.isFile()) continue;
    const id = `${stats.dev}:${stats.ino}`;
    const other = options.get(id);
    if (other !== undefined) throw new Error(`${option} must be another file than ${other}, got "${file}"`);
    options.set(id, option);
  }
}

function drain(
  requests: readonly SimulatedRequest[],
  machine: Machine,
  router: Router,
  model: CostModel,
  policy: Policy,
) {
  const run = simulate(requests, machine, router, model, policy);
  for (let next = run.next(); ; next = run.next()) if (next.done === true) return next.value;
}

/** Doubles until the target is reached, then bisects: attainment rises with replicas. */
function leastReplicas(
  { target, maxReplicas }: SimulateOptions,
  single: Report,
  runWith: (replicas: number) => Report,
): number | null {
  if (single.attainment >= target) return 1;
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

function lineOf(speed: number, report: Report, replicas: number | null, target: number): string {
  const classes = report.classes.map(({ name, attainment }) => `${name} ${percent(attainment)}`).join(', ');
  return [
    `speed ${speed}: ${percent(report.attainment)} inside their budgets (${classes})`,
    `goodput ${report.goodput.toFixed(2)}/s, mean depth ${report.meanDepth.toFixed(1)}`,
    replicas === null
      ? `no number of replicas tried reaches ${percent(target)}`
      : `${replicas} replica(s) for ${percent(target)}`,
  ].join('; ');
}

function plotOf(reports: readonly SpeedReport[]): string {
  const names = [...new Set(reports.flatMap(({ classes }) => classes.map(({ name }) => name)))];
  return svgOf({
    title: 'Simulated: share of requests inside their budgets, and mean quality',
    x: 'arrival rate, multiples of the trace',
    y: 'share',
    yRange: [0, 1],
    series: [
      ...names.map((name) => ({
        name,
        points: reports.map(
          ({ speed, classes }) => [speed, classes.find((each) => each.name === name)?.attainment ?? 0] as const,
        ),
      })),
      { name: 'mean quality', points: reports.map(({ speed, meanQuality }) => [speed, meanQuality] as const) },
    ],
  });
}

/**
 * How well the router plans, in simulation: budgets kept, depth, predictions, against every fixed depth.
 *
 *   npm run bench:planner -- --trace FILE [--seeds tuning|held-out] [--loads 0.5,0.8,1,1.5,2] [--sides routed,...] ...
 *
 * Every side gets the same requests on the same machine. Parameters are chosen by the tuning seeds alone; the held-out
 * ones are for what is reported. Progress goes to the terminal, results to standard output and as JSON to a file.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../src/config.js';
import { costModel } from '../src/router/planner.js';
import { parseCostFile } from '../src/simulate/costs.js';
import { parseTrace } from '../src/simulate/trace.js';
import type { Arrivals } from './goodput/load.js';
import { positive, positives } from './options.js';
import { capacityOf, serve, sidesOf } from './planner/side.js';
import { HEADER, type Result, cellName, lineOf, missesOf, resultOf } from './planner/summary.js';
import {
  type Cell,
  MACHINES,
  type MachineKind,
  SEEDS,
  type SeedSet,
  budgetClasses,
  closedLoad,
  openLoad,
} from './planner/workload.js';

interface Options {
  readonly trace: string;
  readonly cost: string;
  readonly out: string;
  readonly seeds: string;
  readonly loads: string;
  readonly arrivals: string;
  readonly machines: string;
  readonly sides?: string;
  readonly requests: string;
  readonly lengthScale: string;
  readonly slots: string;
  readonly misses: boolean;
}

const values = new Command('bench:planner')
  .description('attainment, quality and predictions of the router in simulation, against fixed depths')
  .requiredOption('--trace <file>', 'CSV in the format of the Azure LLM inference traces')
  .option('--cost <file>', 'costs as `sortie calibrate` prints them', join(packageRoot, 'bench/planner/costs.json'))
  .option('--out <file>', 'where the results go as JSON', 'runs/planner.json')
  .option('--seeds <set>', 'tuning, or held-out', 'tuning')
  .option('--loads <list>', 'multiples of what full depth completes', '0.5,0.8,1,1.5,2')
  .option('--arrivals <list>', 'poisson, bursty', 'poisson,bursty')
  .option('--machines <list>', 'steady, noisy, shared', 'steady,noisy,shared')
  .option('--sides <list>', 'sides by name; all when absent')
  .option('--requests <n>', 'requests of each seed', '250')
  .option('--length-scale <x>', 'factor on prompts and answers of the trace', '0.1')
  .option('--slots <n>', 'sequences that are live at once', '16')
  .option('--misses', 'print every broken promise', false)
  .parse()
  .opts<Options>();

function some<Item extends string>(
  name: 'arrivals' | 'machines' | 'sides',
  text: string,
  known: readonly Item[],
): Item[] {
  return text.split(',').map((word) => {
    const item = known.find((each) => each === word.trim());
    if (item !== undefined) return item;
    throw new Error(`--${name} must be some of ${known.join(', ')}, got "${word}"`);
  });
}

function seedSet(name: string): SeedSet {
  if (name === 'tuning' || name === 'held-out') return name;
  throw new Error(`--seeds must be tuning or held-out, got "${name}"`);
}

function cellsOf(): Cell[] {
  const loads = positives('--loads', values.loads);
  const arrivals = some<Arrivals>('arrivals', values.arrivals, ['poisson', 'bursty']);
  return some('machines', values.machines, MACHINES).flatMap((machine) =>
    arrivals.flatMap((kind) => loads.map((load): Cell => ({ arrivals: kind, load, machine }))),
  );
}

async function main(): Promise<void> {
  const { cost, shape } = parseCostFile(await readFile(values.cost, 'utf8'));
  const trace = parseTrace(await readFile(values.trace, 'utf8'));
  const model = costModel(cost, shape);
  const known = sidesOf(shape.exits.map(({ layer }) => layer));
  const names = known.map(({ name }) => name);
  const chosen = values.sides === undefined ? names : some('sides', values.sides, names);
  const sides = known.filter(({ name }) => chosen.includes(name));
  const lengths = {
    trace,
    requests: positive('--requests', values.requests),
    scale: positive('--length-scale', values.lengthScale),
  };
  const slots = positive('--slots', values.slots);
  const set = seedSet(values.seeds);
  const cells = cellsOf();

  const classes = budgetClasses(model);
  const capacities = new Map<MachineKind, number>();
  // Noise passes; what a machine is shared with stays.
  for (const kind of ['steady', 'shared'] as const) {
    const capacity = capacityOf(closedLoad(lengths, classes), model, slots, kind);
    console.error(`full depth completes ${capacity.toFixed(2)} requests/s with ${slots} clients, ${kind}`);
    capacities.set(kind, capacity);
  }
  const capacity = ({ machine }: Cell): number => capacities.get(machine === 'shared' ? 'shared' : 'steady') ?? NaN;
  console.log(HEADER);
  const results: Result[] = [];
  for (const cell of cells) {
    for (const side of sides) {
      const outcomes = SEEDS[set].flatMap((seed, i) => {
        say(`${cellName(cell)}, ${side.name}, seed ${i + 1} of ${SEEDS[set].length}`);
        const requests = openLoad(lengths, classes, cell.load * capacity(cell), cell.arrivals, seed);
        return serve(side, requests, { model, slots, kind: cell.machine, seed });
      });
      const result = resultOf(cell, side.name, outcomes, shape);
      results.push(result);
      say('');
      console.log(lineOf(result));
      if (!values.misses) continue;
      for (const { request, admission, endedAt, exits } of missesOf(outcomes)) {
        const took = endedAt - request.arrivedAt;
        const predicted = admission.kind === 'admit' ? admission.prediction.totalMs : NaN;
        const lateMs = took - (request.budget?.totalMs ?? 0);
        console.log(
          `  ${request.id} ${request.budgetClass} prompt ${request.promptLength} tokens ${request.tokens}`,
          `predicted ${predicted.toFixed(0)} took ${took.toFixed(0)} late ${lateMs.toFixed(0)} at ${request.arrivedAt.toFixed(0)}`,
          JSON.stringify(Object.fromEntries(exits)),
        );
      }
    }
  }
  await mkdir(dirname(values.out), { recursive: true });
  const { seeds, requests, lengthScale } = values;
  const setup = { seeds, requests, lengthScale, slots, capacities: Object.fromEntries(capacities) };
  await writeFile(values.out, `${JSON.stringify({ setup, results }, null, 2)}\n`);
}

/** Progress on a terminal, over itself. */
function say(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${line}`);
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});

/**
 * Simulated quality of the router's plans: budgets kept, depth, predictions, against a simple router and pinned exits.
 * The router gets only the information of a client; the `oracle` sides add exact answer lengths.
 *
 *   npm run bench:planner -- --trace FILE [--seeds tuning|held-out] [--loads 0.3,0.8,1,1.5,2] [--sides routed,...] ...
 *
 * Requests have no max_tokens by default, and lengths that differ by exit. Every side gets the same requests on the
 * same machine. Only the tuning seeds choose parameters; published results use the held-out seeds.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../src/config.js';
import { costModel } from '../src/cost/model.js';
import { folderPrior } from '../src/engine/worker/length-prior.js';
import { loadManifest } from '../src/model/manifest-io.js';
import { type Policy, defaultPolicy } from '../src/router/index.js';
import { parseCostFile } from '../src/simulate/costs.js';
import { parseTrace } from '../src/load/trace.js';
import { positive, positives } from './options.js';
import type { Machine } from './planner/machine.js';
import { capacityOf, serve, sidesOf } from './planner/side.js';
import { HEADER, type Result, cellName, lineOf, missesOf, resultOf } from './planner/summary.js';
import {
  type Cell,
  LIMITS,
  MACHINES,
  type Material,
  SEEDS,
  type SeedSet,
  WORKLOADS,
  budgetClasses,
  closedLoad,
  openLoad,
  parseAnswers,
} from './planner/workload.js';

interface Options {
  readonly trace: string;
  readonly cost: string;
  readonly lengths: string;
  readonly model: string;
  readonly out: string;
  readonly seeds: string;
  readonly loads: string;
  readonly arrivals: string;
  readonly machines: string;
  readonly workloads: string;
  readonly limits: string;
  readonly unbudgeted: string;
  readonly sides?: string;
  readonly requests: string;
  readonly lengthScale: string;
  readonly slots: string;
  readonly misses: boolean;
  readonly set: string[];
}

const values = new Command('bench:planner')
  .description(
    'attainment, quality and predictions of the router in simulation, against a simple router and pinned exits',
  )
  .requiredOption('--trace <file>', 'CSV in the format of the Azure LLM inference traces, for the lengths of prompts')
  .option('--cost <file>', 'costs as `sortie calibrate` prints them', join(packageRoot, 'bench/planner/costs.json'))
  .option(
    '--lengths <file>',
    'answer lengths by exit, from bench:lengths',
    join(packageRoot, 'bench/planner/lengths.json'),
  )
  .option(
    '--model <dir>',
    'model folder, for its prior of answer lengths',
    join(packageRoot, 'models/smollm2-135m-sorted'),
  )
  .option('--out <file>', 'JSON file for the results', 'runs/planner.json')
  .option('--seeds <set>', 'tuning or held-out', 'tuning')
  .option('--workloads <list>', 'chat, short, prompts, trace', 'chat,short')
  .option('--limits <kind>', 'max_tokens: unstated or loose', 'unstated')
  .option('--unbudgeted <share>', 'share of requests without a budget', '0')
  .option('--loads <list>', 'multiples of the throughput of full depth', '0.3,0.8,1,1.5,2')
  .option('--arrivals <list>', 'poisson, bursty, closed', 'poisson,bursty')
  .option('--machines <list>', 'steady, noisy, shared', 'steady,shared')
  .option('--sides <list>', 'sides to run; default: all')
  .option('--requests <n>', 'requests per seed', '250')
  .option('--length-scale <x>', 'factor on prompts and answers of the trace', '0.1')
  .option('--slots <n>', 'concurrent live sequences', '16')
  .option('--misses', 'print every missed guarantee', false)
  .option('--set <name=value>', 'override a policy field, for ablations', (text, all: string[]) => [...all, text], [])
  .parse()
  .opts<Options>();

function some<Item extends string>(name: string, text: string, known: readonly Item[]): Item[] {
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

function policyOf(): Policy {
  const changes = values.set.map((text) => {
    const [name = '', value = ''] = text.split('=');
    if (!(name in defaultPolicy)) throw new Error(`--set must name one of ${Object.keys(defaultPolicy).join(', ')}`);
    return [name, value === 'true' ? true : Number(value)] as const;
  });
  return { ...defaultPolicy, ...Object.fromEntries(changes) };
}

function cellsOf(): Cell[] {
  const loads = positives('--loads', values.loads);
  const arrivals = some('arrivals', values.arrivals, ['poisson', 'bursty', 'closed'] as const);
  return some('workloads', values.workloads, WORKLOADS).flatMap((workload) =>
    some('machines', values.machines, MACHINES).flatMap((machine) =>
      arrivals.flatMap((kind) => loads.map((load): Cell => ({ workload, arrivals: kind, load, machine }))),
    ),
  );
}

async function main(): Promise<void> {
  const { cost, shape } = parseCostFile(await readFile(values.cost, 'utf8'));
  const trace = parseTrace(await readFile(values.trace, 'utf8'));
  const layers = shape.exits.map(({ layer }) => layer);
  const answers = parseAnswers(await readFile(values.lengths, 'utf8'), layers);
  const { prior, fault } = folderPrior(loadManifest(values.model));
  if (fault !== null) console.error(`--model: ${fault}; the router uses its own prior of answer lengths`);
  const model = costModel(cost, shape);
  const known = sidesOf(layers);
  const names = known.map(({ name }) => name);
  const chosen = values.sides === undefined ? names : some('sides', values.sides, names);
  const sides = known.filter(({ name }) => chosen.includes(name));
  const [limits = 'unstated'] = some('limits', values.limits, LIMITS);
  const material: Material = {
    trace,
    answers,
    exits: layers.length,
    requests: positive('--requests', values.requests),
    scale: positive('--length-scale', values.lengthScale),
    limits,
    noBudget: Number(values.unbudgeted),
  };
  const slots = positive('--slots', values.slots);
  const set = seedSet(values.seeds);
  const policy = policyOf();
  const machineOf = (cell: Pick<Cell, 'machine' | 'arrivals' | 'load'>, seed: number): Machine => ({
    model,
    table: cost,
    prior,
    policy,
    slots,
    kind: cell.machine,
    seed,
    clients: cell.arrivals === 'closed' ? Math.max(1, Math.round(2 * slots * cell.load)) : null,
  });

  const classes = budgetClasses(model);
  const capacities = new Map<string, number>();
  const capacity = ({ machine, workload }: Cell): number => {
    // Noise does not change the mean capacity, but a shared machine does.
    const kind = machine === 'shared' ? 'shared' : 'steady';
    const known = capacities.get(`${workload} ${kind}`);
    if (known !== undefined) return known;
    const perSecond = capacityOf(
      closedLoad(material, workload, classes),
      machineOf({ machine: kind, arrivals: 'poisson', load: 1 }, 0),
    );
    console.error(
      `full depth completes ${perSecond.toFixed(2)} requests/s with ${slots} clients, ${workload}, ${kind}`,
    );
    capacities.set(`${workload} ${kind}`, perSecond);
    return perSecond;
  };
  console.log(HEADER);
  const results: Result[] = [];
  for (const cell of cellsOf()) {
    for (const side of sides) {
      const runs = SEEDS[set].map((seed, i) => {
        say(`${cellName(cell)}, ${side.name}, seed ${i + 1} of ${SEEDS[set].length}`);
        const requests = openLoad(material, cell, classes, cell.load * capacity(cell), seed);
        return serve(side, requests, machineOf(cell, seed));
      });
      const result = resultOf(cell, side.name, runs, shape, slots);
      results.push(result);
      say('');
      console.log(lineOf(result));
      if (!values.misses) continue;
      for (const { request, admission, endedAt, path } of missesOf(runs.flat())) {
        const took = endedAt - request.arrivedAt;
        const predicted = admission.kind === 'admit' ? admission.prediction.totalMs : NaN;
        const lateMs = took - (request.budget?.totalMs ?? 0);
        console.log(
          `  ${request.id} ${request.budgetClass} prompt ${request.promptLength} lengths ${request.lengths.join('/')}`,
          `predicted ${predicted.toFixed(0)} took ${took.toFixed(0)} late ${lateMs.toFixed(0)} at ${request.arrivedAt.toFixed(0)}`,
          path.map(({ exit, tokens }) => `${exit}:${tokens}`).join(' '),
        );
      }
    }
  }
  await mkdir(dirname(values.out), { recursive: true });
  const { seeds, requests, lengthScale } = values;
  const setup = { seeds, requests, lengthScale, slots, capacities: Object.fromEntries(capacities) };
  await writeFile(values.out, `${JSON.stringify({ setup, results }, null, 2)}\n`);
}

/** Overwrites a line of progress, on a terminal only. */
function say(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${line}`);
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});

/**
 * `npm run bench:engine`: tokens per second of the engine at several depths, of llama.cpp, and of both through HTTP.
 * Unlike most clients, each request states the exact length of its answer.
 *
 * Sides alternate within one run. Figures are medians, and ratios are ratios of medians. Compare figures only within
 * one run, and at equal bits per weight.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { benchOptions, engineRates } from './engine-side.js';
import { eventLoopLagP99, httpRates } from './http-side.js';
import { ATTENTION, better, peerRates } from './peer-side.js';
import { type Rate, type Scenario, SCENARIOS } from './scenario.js';
import { startPeer, startSortie } from './server.js';
import { median } from '../src/util/stats.js';

interface Options {
  readonly model: string[];
  readonly peer?: string;
  readonly peerModel: string[];
  readonly exits: string;
  readonly rounds: string;
  readonly threads: string;
  readonly http: boolean;
  readonly out?: string;
}

interface BenchSide {
  readonly name: string;
  readonly run: (scenarios: readonly Scenario[]) => Promise<Rate[]>;
}

const embedded = fileURLToPath(new URL('../../models/smollm2-135m-sorted', import.meta.url));
const options = new Command('bench:engine')
  .description('tokens per second of the engine, its depths, llama.cpp and the HTTP server, side by side')
  .option('--model <dir...>', 'model folders, each a side of its own', [embedded])
  .option('--exits <layers>', 'exits to measure, deepest first (default: full depth and 15)', 'full,15')
  .option('--peer <dir>', 'a build of llama.cpp, to run its llama-batched-bench and llama-server as well')
  .option('--peer-model <file...>', 'GGUF files for the peer, each a side of its own', [])
  .option('--rounds <n>', 'rounds to take medians over', '5')
  .option('--threads <n>', 'compute threads of every side', '2')
  .option('--no-http', 'skip the HTTP servers')
  .option('--out <file>', 'write all figures as JSON')
  .parse()
  .opts<Options>();

const threads = Number(options.threads);
const base = (path: string): string => path.replace(/\/+$/, '').split('/').at(-1) ?? path;
const sides: BenchSide[] = [
  ...options.model.flatMap((dir) =>
    options.exits.split(',').map((exit) => ({
      name: `sortie ${base(dir)} ${exit}`,
      run: (scenarios: readonly Scenario[]) =>
        engineRates(benchOptions(dir, threads), exit === 'full' ? null : Number(exit), scenarios),
    })),
  ),
  ...options.peerModel.map((file) => ({
    name: `llama.cpp ${base(file)}`,
    run: (scenarios: readonly Scenario[]) => peerRates(options.peer ?? '', file, threads, scenarios),
  })),
];
if (options.http) {
  sides.push({
    name: `http ${base(options.model[0] ?? embedded)} full`,
    run: async (scenarios) => {
      const server = await startSortie(options.model[0] ?? embedded, ['--threads', String(threads)]);
      try {
        const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
        const rates = await httpRates(server, data.at(-1)?.id ?? '', scenarios);
        process.stderr.write(`event-loop lag p99 ${(await eventLoopLagP99(server)).toFixed(1)} ms\n`);
        return rates;
      } finally {
        await server.stop();
      }
    },
  });
  for (const file of options.peerModel)
    sides.push({
      name: `http llama-server ${base(file)}`,
      run: async (scenarios) => {
        const runs: Rate[][] = [];
        for (const attention of ATTENTION) {
          const server = await startPeer(options.peer ?? '', file, { threads, slots: 16, attention });
          try {
            runs.push(await httpRates(server, 'any', scenarios));
          } finally {
            await server.stop();
          }
        }
        return better(runs);
      },
    });
}

const figures = new Map<string, Rate[][]>(sides.map(({ name }) => [name, []]));
const rounds = Number(options.rounds);
for (let round = 1; round <= rounds; round++)
  for (const { name, run } of sides) {
    const rates = await run(SCENARIOS);
    figures.get(name)?.push(rates);
    const line = rates.map(({ prefill, decode }) => `${prefill.toFixed(0)}/${decode.toFixed(0)}`).join('  ');
    process.stderr.write(`round ${round}/${rounds} ${name}: ${line}\n`);
  }

const medians = [...figures].map(([name, all]) => ({
  name,
  rates: SCENARIOS.map((_, index) => ({
    prefill: median(all.map((rates) => rates[index]?.prefill ?? NaN)),
    decode: median(all.map((rates) => rates[index]?.decode ?? NaN)),
  })),
}));
const [reference] = medians;
const heads = SCENARIOS.flatMap(({ parallel, promptTokens }) => [
  `prefill ${parallel}x${promptTokens}`,
  `decode x${parallel}`,
]);
console.log(['tokens per second, medians (ratio of the first side to this one)', ...heads].join(' | '));
for (const { name, rates } of medians)
  console.log(
    [
      name,
      ...rates.flatMap(({ prefill, decode }, index) => {
        const first = reference?.rates[index];
        return [
          `${prefill.toFixed(0)} (${((first?.prefill ?? NaN) / prefill).toFixed(2)})`,
          `${decode.toFixed(0)} (${((first?.decode ?? NaN) / decode).toFixed(2)})`,
        ];
      }),
    ].join(' | '),
  );
if (options.out !== undefined)
  writeFileSync(options.out, `${JSON.stringify({ scenarios: SCENARIOS, medians }, null, 2)}\n`);

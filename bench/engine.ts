/**
 * `npm run bench:engine`: tokens per second of the engine at several depths, of llama.cpp, and of both through HTTP.
 * Unlike most clients, each request states the exact length of its answer.
 *
 * Sides alternate within one run. Figures are medians, and ratios are ratios of medians. Compare figures only within
 * one run, and at equal bits per weight.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { draftReport } from './engine/drafts.js';
import { growthPlots } from './engine/growth.js';
import { shapeOf, SHAPES, writeShape } from './engine/shapes.js';
import { type BenchSide, engineSide, httpPeerSide, httpSide, peerSide } from './engine/sides.js';
import { GROWTH, type Rate, SCENARIOS } from './scenario.js';
import { kernelList, servedKernelList } from '../src/options/kinds.js';
import type { KernelName, StageKernel } from '../src/model/manifest.js';
import { median } from '../src/util/stats.js';

interface Options {
  readonly model: string[];
  readonly shape?: string;
  readonly kernels?: string[];
  readonly peer?: string;
  readonly peerModel: string[];
  readonly exits?: string;
  readonly growth: boolean;
  readonly speculate: boolean;
  readonly rounds: string;
  readonly threads: string;
  readonly http: boolean;
  readonly out?: string;
}

const embedded = fileURLToPath(new URL('../../models/smollm2-135m-sorted', import.meta.url));
const options = new Command('bench:engine')
  .description('tokens per second of the engine, its depths, llama.cpp and the HTTP server, side by side')
  .option('--model <dir...>', 'model folders, each a side of its own', [embedded])
  .option('--shape <name>', `random weights instead of a model: ${Object.keys(SHAPES).join(', ')}`)
  .option('--kernels <list...>', 'kernels of the engine, such as w8a8 or w8a8,int8, each list a side of its own')
  .option('--exits <layers>', 'exits to measure, deepest first (default: full depth and half of it)')
  .option('--peer <dir>', 'a build of llama.cpp, to run its llama-batched-bench and llama-server as well')
  .option('--peer-model <file...>', 'GGUF files for the peer, each a side of its own', [])
  .option('--growth', '1 to 64 streams with prompts of 95 to 8,159 tokens instead, and two plots beside --out', false)
  .option('--speculate', 'one stream with drafts and without, on a --shape whose exits agree by construction', false)
  .option('--rounds <n>', 'rounds to take medians over', '5')
  .option('--threads <n>', 'compute threads of every side', '2')
  .option('--no-http', 'skip the HTTP servers')
  .option('--out <file>', 'write all figures as JSON')
  .parse()
  .opts<Options>();

const threads = Number(options.threads);
const scenarios = options.growth ? GROWTH : SCENARIOS;
const kernels = (options.kernels ?? []).map((list): readonly StageKernel[] => {
  const parsed = servedKernelList.parse(list);
  if (parsed) return parsed;
  throw new Error(`--kernels must be ${servedKernelList.rule}, got "${list}"`);
});

/** Folders, exits and GGUF files to measure. */
interface Sources {
  readonly folders: readonly string[];
  readonly exits: readonly string[];
  readonly gguf: readonly string[];
}

/** Kernels to convert a shape with. */
function storedKernels(): KernelName[] {
  const stored = [...new Set(kernels.flat())].flatMap((kernel) => kernelList.parse(kernel) ?? []);
  return stored.length > 0 ? stored : ['w8a8'];
}

/** Measures drafts. @param dir an empty folder, which the caller removes */
async function speculate(dir: string): Promise<void> {
  const { shape = 'llama-1b', rounds } = options;
  const { folder } = await writeShape(shape, dir, storedKernels(), true);
  const [list = null] = kernels;
  const lines = await draftReport(folder, { threads, kernels: list, rounds: Number(rounds) }, (line) => {
    process.stderr.write(`${line}\n`);
  });
  for (const line of lines) console.log(line);
}

/** @param dir an empty folder, which the caller removes */
async function sources(dir: string): Promise<Sources> {
  const { shape, peer, peerModel } = options;
  const exits = (half: number): string[] => (options.exits ?? `full,${half}`).split(',');
  if (shape === undefined) return { folders: options.model, exits: exits(15), gguf: peerModel };
  const { exit } = shapeOf(shape);
  const written = await writeShape(shape, dir, storedKernels());
  return { folders: [written.folder], exits: exits(exit), gguf: peer === undefined ? [] : written.gguf };
}

function sidesOf({ folders, exits, gguf }: Sources): BenchSide[] {
  const peer = options.peer ?? '';
  const room = options.growth ? { maxRunning: 64, kvMemoryBytes: 2 ** 32 } : {};
  const lists = kernels.length > 0 ? kernels : [null];
  return [
    ...folders.flatMap((dir) =>
      lists.flatMap((list) => exits.map((exit) => engineSide(dir, exit, threads, { ...room, kernels: list }))),
    ),
    ...gguf.map((file) => peerSide(peer, file, threads)),
    ...(options.http && !options.growth
      ? [httpSide(folders[0] ?? embedded, threads), ...gguf.map((file) => httpPeerSide(peer, file, threads))]
      : []),
  ];
}

async function measure(sides: readonly BenchSide[]): Promise<{ name: string; rates: Rate[] }[]> {
  const figures = new Map<string, Rate[][]>(sides.map(({ name }) => [name, []]));
  const rounds = Number(options.rounds);
  for (let round = 1; round <= rounds; round++)
    for (const { name, run } of sides) {
      const rates = await run(scenarios);
      figures.get(name)?.push(rates);
      const line = rates.map(({ prefill, decode }) => `${prefill.toFixed(0)}/${decode.toFixed(0)}`).join('  ');
      process.stderr.write(`round ${round}/${rounds} ${name}: ${line}\n`);
    }
  return [...figures].map(([name, all]) => ({
    name,
    rates: scenarios.map((_, index) => ({
      prefill: median(all.map((rates) => rates[index]?.prefill ?? NaN)),
      decode: median(all.map((rates) => rates[index]?.decode ?? NaN)),
    })),
  }));
}

const dir = mkdtempSync(join(tmpdir(), 'sortie-bench-'));
process.on('exit', () => {
  rmSync(dir, { recursive: true, force: true });
});
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
if (options.speculate) {
  await speculate(dir);
  process.exit();
}
const medians = await measure(sidesOf(await sources(dir)));
const [reference] = medians;
const heads = scenarios.flatMap(({ parallel, promptTokens }) => [
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
const out = options.out ?? (options.growth ? 'growth.json' : undefined);
if (out !== undefined) {
  writeFileSync(out, `${JSON.stringify({ scenarios, medians }, null, 2)}\n`);
  if (options.growth)
    for (const [end, svg] of growthPlots(scenarios, medians))
      writeFileSync(`${out.replace(/\.json$/, '')}-${end}`, svg);
}

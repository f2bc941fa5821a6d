/**
 * `npm run bench:gpu`: what a machine with a GPU can confirm, in one command without a network. It writes one JSON file
 * after each part, so that a lost machine loses one part, and prints a table.
 *
 * The order: what is missing, placement, answers against the CPU, repeated answers, memory and speed, and a comparison with
 * vLLM over HTTP as a table for docs/benchmarks.md. The models are made on the machine. With `--device cpu`, or over fake CUDA libraries, it is a dry run, and its output says so.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../src/cli/options/config.js';
import { convert } from '../src/convert/convert.js';
import { EngineClient } from '../src/gateway/engine-client/client.js';
import type { EngineOptions } from '../src/protocol/engine-options.js';
import type { ReadyMessage } from '../src/protocol/index.js';
import type { StageKernel } from '../src/engine/model/manifest.js';
import { monotonicMs } from '../src/util/clock.js';
import { benchOptions } from './engine-side.js';
import { type Card, readCard, usedMib } from './gpu/card.js';
import { type Comparison, comparisonTable, hasVllm, measureSortie, measureVllm } from './gpu/compare.js';
import { agreement, greedyAnswers, rates, stress } from './gpu/measure.js';
import { missing } from './gpu/preflight.js';
import { SHAPES, type ShapeName } from './gpu/shapes.js';
import { processor } from './machine.js';
import { number, numbers, optionsOf, text } from './options.js';

const options = optionsOf('bench:gpu', 'placement, precision, order, memory and speed on a GPU', {
  device: text('name', 'cuda, or cpu for a dry run', 'cuda'),
  sizes: text('list', `models to time: ${Object.keys(SHAPES).join(', ')}`, '1b'),
  rows: numbers('sequences that decode together', [1, 16, 64, 256]),
  prompts: number('prompts to compare with the CPU', 200),
  stress: number('seconds for repeated answers', 60),
  minutes: number('time for everything', 10),
  out: text('file', 'all figures as JSON', 'gpu.json'),
});
const { rows } = options;
const device = options.device === 'cpu' ? 'cpu' : 'cuda';
if (options.device !== device) throw new Error(`--device must be cuda or cpu, got "${options.device}"`);
const sizes = options.sizes.split(',').map((size) => {
  if (size in SHAPES) return size as ShapeName;
  throw new Error(`--sizes must name ${Object.keys(SHAPES).join(', ')}, got "${size}"`);
});
const deadline = monotonicMs() + 60_000 * options.minutes;
const kernel = device === 'cpu' ? 'fp32' : 'fp16';
/** The kernels of an engine each: on CUDA also the captured form. */
const forms: readonly StageKernel[] = device === 'cpu' ? [kernel] : [kernel, 'fp16-graph'];
const work = mkdtempSync(join(tmpdir(), 'sortie-bench-gpu-'));

const card: Card | null = device === 'cpu' ? null : readCard();
const lacking = missing(card, sizes);
if (lacking.length > 0) {
  for (const sentence of lacking) console.error(`bench:gpu: ${sentence}`);
  process.exit(1);
}
const dryRun =
  card === null ? 'on the CPU' : card.name === 'fake' ? 'over fake CUDA libraries: no kernel computes' : null;
const report: Record<string, unknown> = {
  card,
  dryRun,
  cpu: processor(),
  startedAt: new Date().toISOString(),
  parts: {},
};

/** Runs a part within the time that is left, and writes its result or its error. */
async function part(name: string, run: () => Promise<unknown>): Promise<void> {
  const started = monotonicMs();
  const late = new AbortController();
  const left = deadline - started;
  const result = await Promise.race([
    left <= 0 ? Promise.reject(new Error('no time was left')) : run(),
    delay(Math.max(1, left), null, { signal: late.signal }).then(() => {
      throw new Error('the time was over');
    }),
  ]).catch((error: unknown) => ({ error: error instanceof Error ? error.message : String(error) }));
  late.abort();
  const seconds = Math.round((monotonicMs() - started) / 100) / 10;
  (report.parts as Record<string, unknown>)[name] = { seconds, result };
  const rounded = (_: string, value: unknown): unknown =>
    typeof value === 'number' ? Number(value.toPrecision(4)) : value;
  writeFileSync(options.out, `${JSON.stringify(report, rounded, 2)}\n`);
  console.log(`\n${name} (${seconds} s)${dryRun === null ? '' : `, dry run ${dryRun}`}`);
  console.table(JSON.parse(JSON.stringify(result, rounded)));
}

/** Markdown, by size. */
const tables: string[] = [];
const running = new Set<EngineClient>();

/** Runs work on an engine process, which ends with it. */
async function withEngine<T>(
  changes: Partial<EngineOptions> & Pick<EngineOptions, 'modelDir'>,
  use: (engine: EngineClient, ready: ReadyMessage) => Promise<T>,
): Promise<T> {
  const usual = { device, kvMemoryBytes: 2 ** 30, maxQueue: 1000, prefillChunk: 512 } as const;
  const engine = new EngineClient(
    benchOptions(changes.modelDir, Math.min(16, availableParallelism()), { ...usual, ...changes }),
  );
  running.add(engine);
  try {
    return await use(engine, await engine.start());
  } finally {
    running.delete(engine);
    await engine.close();
  }
}

/** Makes a model in a process beside the measurements. */
function make(shape: ShapeName): Promise<string> {
  const out = join(work, shape);
  const script = fileURLToPath(new URL('gpu/make.js', import.meta.url));
  const kernels = device === 'cpu' ? [kernel] : [kernel, 'w4a16'];
  const child = spawn(process.execPath, [...process.execArgv, script, shape, out, ...kernels], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  process.once('exit', () => child.kill('SIGKILL'));
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`the ${shape} model could not be made`));
    });
  });
}

async function tiny(name: 'fp16' | 'fp32'): Promise<string> {
  const source = join(packageRoot, 'test/golden/tiny');
  const out = join(work, `tiny-${name}`);
  const exitBlocks = join(source, 'exit-blocks.safetensors');
  await convert({ source, out, exits: [1, 2, 5], exitBlocks, kernels: [name], compress: false, force: true });
  return out;
}

/** Prompts of 8 to 40 tokens of the tiny model. */
const prompts = Array.from({ length: options.prompts }, (_, i) =>
  Array.from({ length: 8 + (i % 33) }, (_, j) => 3 + ((i * 53 + j * j * 7 + j * 31) % 250)),
);

const models = new Map(sizes.map((size) => [size, make(size)]));
for (const model of models.values()) model.catch(() => undefined);
const small = { modelDir: await tiny(kernel), kvMemoryBytes: 2 ** 26, prefillChunk: 64 };

await part('placement', () =>
  // The engine rejects a graph of which the provider does not take every node.
  withEngine(small, (_, { device, loadMs, calibrateMs }) => Promise.resolve({ device, loadMs, calibrateMs })),
);
await part('answers against fp32 on the CPU', async () => {
  const reference = { ...small, modelDir: await tiny('fp32'), device: 'cpu' } as const;
  const expected = await withEngine(reference, async (engine, { exits }) =>
    Promise.all(exits.map(async (exit) => [exit, await greedyAnswers(engine, exit, prompts, 1, 24)] as const)),
  );
  const table: Record<string, unknown> = {};
  for (const form of forms)
    await withEngine({ ...small, kernels: [form] }, async (engine) => {
      for (const [exit, answers] of expected)
        for (const parallel of [1, 16])
          table[`${form}, exit ${exit}, ${parallel} rows`] = agreement(
            answers,
            await greedyAnswers(engine, exit, prompts, parallel, 24),
          );
    });
  return table;
});
await part('repeated answers of one row', () =>
  withEngine(small, (engine, { exits }) => stress(engine, exits, prompts.slice(0, 16), options.stress)),
);
for (const [size, made] of models) {
  const most = Math.max(...rows);
  const perPosition = 4 * SHAPES[size].layers * SHAPES[size].kvHeads * SHAPES[size].headDim + 4 * SHAPES[size].hidden;
  /** In whole pages. */
  const memory = (slots: number, positions: number): number =>
    Math.ceil(1.1 * slots * 256 * Math.ceil(positions / 256) * perPosition * (device === 'cpu' ? 2 : 1));
  await part(`${size}: memory and speed`, async () => {
    const modelDir = await made;
    const before = usedMib();
    const kvMemoryBytes = memory(most, most + 192);
    return withEngine({ modelDir, maxRunning: most, kvMemoryBytes }, async (engine, { exits, loadMs, calibrateMs }) => {
      const table: Record<string, unknown> = {
        load: { 'load ms': loadMs, 'calibrate ms': calibrateMs },
        memory: { 'KV budget MiB': kvMemoryBytes / 2 ** 20, 'used MiB': (usedMib() ?? NaN) - (before ?? NaN) },
      };
      for (const exit of exits.toReversed())
        for (const [parallel, rate] of Object.entries(await rates(engine, exit, rows)))
          table[`exit ${exit}, ${parallel} rows`] = {
            'prefill tokens/s': rate.prefill,
            'decode tokens/s': rate.decode,
          };
      return table;
    });
  });
  await part(`${size}: decoding by captured graphs`, async () => {
    const modelDir = await made;
    const changes = { modelDir, maxRunning: most, kvMemoryBytes: memory(most, most + 192), kernels: forms.slice(-1) };
    return withEngine(changes, async (engine, { exits }) => {
      const measured = Object.entries(await rates(engine, exits.at(-1) ?? 0, rows));
      return Object.fromEntries(measured.map(([parallel, { decode }]) => [`${parallel} rows, tokens/s`, decode]));
    });
  });
  await part(`${size}: over HTTP`, async () => {
    const modelDir = await made;
    const { layers } = SHAPES[size];
    const kv = `${Math.ceil(memory(1, 220_000) / 2 ** 20)}MiB`;
    const limits = ['--max-running', '64', '--kv-memory', kv, '--max-queue', '100'];
    const exits = [layers, layers / 2].map((layer) => `${size}:${layer}`);
    const found: Comparison = {};
    const measure = async (dir: string, format: string): Promise<void> => {
      Object.assign(found, await measureSortie(dir, exits, format, ['--device', device, ...limits]));
    };
    await measure(modelDir, kernel);
    if (device === 'cuda') await measure(`${modelDir}-w4a16`, 'w4a16');
    if (device === 'cuda' && hasVllm()) Object.assign(found, await measureVllm(`${modelDir}.source`));
    tables.push(`${size}\n\n${comparisonTable(found)}`);
    return found;
  });
}
for (const engine of running) await engine.close();
rmSync(work, { recursive: true, force: true });
for (const table of tables) console.log(`\n${table}`);
if (!hasVllm()) console.log('\nno program `vllm` was found: the tables have Sortie alone');
console.log(`\n${options.out}`);
process.exit(0);

/**
 * Requests with `--audit idle`, or a share, against `off` on the real server, routed by budgets; audited agreement
 * against the model card's.
 *
 *   npm run bench:audit -- --questions FILE [--out DIR] [--loads 0.5,1] [--seeds 1,2,3] [--sides off,idle]
 *     [--seconds 60] [--cells N]
 *
 * - A cell is one load, seed and side, in a server of its own. All sides get the same requests at the same instants, and
 *   alternate.
 * - Load 1 is that of bench:goodput. Budgets are 2, 4 and 10 times the median of full depth alone. The first call measures both.
 * - Cells in DIR/audit.json are not run again, so a long bench can run in pieces: `--cells 2` ends after two, 0 after the setup.
 *
 * Prints the tables of all cells so far.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../src/config.js';
import { loadManifest } from '../src/model/manifest-io.js';
import { type Cell, type CellName, type Machine, runCell, startServer } from './audit/cell.js';
import { agreementTable, cellsOf, loadTable, outcomeTable } from './audit/summary.js';
import { sampledQuestions } from './goodput/questions.js';
import { earlier } from './goodput/record.js';
import { measureSetup, type Setup } from './goodput/setup.js';
import { modelOf } from './goodput/side.js';
import { positive, positives } from './options.js';

const values = new Command('bench:audit')
  .description('audits in idle time against none: TTFT and attainment under load, audited answers, agreement')
  .requiredOption('--questions <file>', 'JSON array of {instruction, input}, or text with one question per line')
  .option('--keep <n>', 'size of the random sample of the questions', '60')
  .option('--out <dir>', 'folder for audit.json', 'runs/audit')
  .option('--model <dir>', 'model folder', join(packageRoot, 'models', 'smollm2-135m-sorted'))
  .option('--loads <list>', 'multiples of the throughput of full depth', '0.5,1')
  .option('--seeds <list>', 'seeds of arrivals and budgets', '1,2,3')
  .option('--sides <list>', 'values of --audit', 'off,idle')
  .option('--seconds <n>', 'mean time of the arrivals of a cell', '60')
  .option('--cells <n>', 'most cells of this call')
  .option('--threads <n>', 'compute threads', '2')
  .option('--slots <n>', 'concurrent sequences', '16')
  .parse()
  .opts<
    Record<
      'questions' | 'keep' | 'out' | 'model' | 'loads' | 'seeds' | 'sides' | 'seconds' | 'threads' | 'slots',
      string
    > & {
      readonly cells?: string;
    }
  >();

interface State {
  /** Options that make cells comparable. */
  readonly options: Readonly<Record<string, string>>;
  readonly setup: Setup | null;
  readonly cells: readonly Cell[];
}

const file = join(values.out, 'audit.json');

function comparable(): State['options'] {
  const { questions, keep, model, seconds, threads, slots } = values;
  return { questions, keep, model, seconds, threads, slots };
}

async function main(): Promise<void> {
  const manifest = loadManifest(values.model);
  const wanted = cellsOf(
    values.sides.split(','),
    positives('--loads', values.loads),
    positives('--seeds', values.seeds),
  );
  const most = values.cells === '0' ? 0 : positive('--cells', values.cells ?? String(wanted.length));
  const questions = sampledQuestions(values.questions, positive('--keep', values.keep));
  const seconds = positive('--seconds', values.seconds);
  const cacheDir = join(values.out, 'cache');
  await mkdir(cacheDir, { recursive: true });
  const machine: Machine = {
    ...{ model: values.model, cacheDir },
    ...{ threads: positive('--threads', values.threads), slots: positive('--slots', values.slots) },
  };
  let record = earlier<State>(file, { options: comparable(), setup: null, cells: [] });
  const keep = async (next: State): Promise<void> => {
    record = next;
    await writeFile(file, `${JSON.stringify(record, null, 1)}\n`);
  };
  const setup = record.setup ?? (await measured(machine));
  await keep({ ...record, setup });
  const isDone = (name: CellName): boolean =>
    record.cells.some((cell) => cell.audit === name.audit && cell.load === name.load && cell.seed === name.seed);
  for (const name of wanted.filter((each) => !isDone(each)).slice(0, most)) {
    const cell = await runCell(name, setup, questions, machine, manifest, seconds);
    await keep({ ...record, cells: [...record.cells, cell] });
    console.error(`load ${name.load}, seed ${name.seed}, audit ${name.audit}: ${cell.requests} requests`);
  }
  const card = manifest.exits.map(({ layer, quality: { agreement } }) => ({ layer, agreement }));
  const tables = [loadTable(record.cells), outcomeTable(record.cells), agreementTable(record.cells, card)];
  console.log(tables.map((lines) => lines.join('\n')).join('\n\n'));
  const left = wanted.filter((each) => !isDone(each)).length;
  if (left > 0) console.log(`\n${left} of ${wanted.length} cells are left: the same command goes on.`);

  async function measured(on: Machine): Promise<Setup> {
    const server = await startServer(on, 'off');
    try {
      return await measureSetup(server.url, modelOf(manifest), questions, on.slots, 2 * questions.length);
    } finally {
      await server.stop();
    }
  }
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});

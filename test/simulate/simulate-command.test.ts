/** The simulate command: chunks, stated lengths, and output files. */
import { link, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { simulateCommand } from '../simulator/simulate-command.js';
import { simulateDefaults } from '../simulator/simulate-options.js';
import type { Limits } from '../simulator/workload.js';
import { shape, table } from '../scheduler/sample.js';

/** Files with four requests and with their costs. */
async function files(t: Test): Promise<{ dir: string; trace: string; cost: string }> {
  const dir = t.testdir({});
  const [trace, cost] = [join(dir, 'trace.csv'), join(dir, 'cost.json')];
  const arrivals = Array.from({ length: 4 }, (_, i) => `2023-11-16 18:15:4${i}.0000000,600,4`);
  await writeFile(trace, ['TIMESTAMP,ContextTokens,GeneratedTokens', ...arrivals, ''].join('\n'));
  await writeFile(cost, JSON.stringify({ cost: table, shape }));
  return { dir, trace, cost };
}

void t.test("a smaller --prefill-chunk makes prompts slower; the default is the server's", async (t) => {
  const { trace, cost } = await files(t);
  const ttft = async (chunk: { readonly prefillChunk?: number }): Promise<number> => {
    const options = { ...simulateDefaults, trace, cost, speeds: [1], noise: 0, ...chunk };
    const [report] = await simulateCommand(options, () => undefined);
    return report?.ttftMs?.p50 ?? 0;
  };
  const usual = await ttft({});
  t.equal(usual, await ttft({ prefillChunk: 128 }));
  t.ok((await ttft({ prefillChunk: 16 })) > 1.3 * usual, `${usual} ms in chunks of 128`);
});

void t.test('stated lengths improve the predictions', async (t) => {
  const { trace, cost } = await files(t);
  const error = async (limits?: Limits): Promise<number> => {
    const options = {
      ...simulateDefaults,
      trace,
      cost,
      speeds: [1],
      noise: 0,
      ...(limits && { limits }),
    };
    const [report] = await simulateCommand(options, () => undefined);
    return report?.predictionError?.total.p50 ?? NaN;
  };
  const [usual, unstated, stated] = [await error(), await error('unstated'), await error('stated')];
  t.equal(usual, unstated);
  t.ok(stated < 0.5 * unstated, `${stated} and ${unstated}`);
});

void t.test('a floor of quality excludes shallower exits', async (t) => {
  const { dir, cost } = await files(t);
  const trace = join(dir, 'tight.log');
  const line = (i: number): string =>
    JSON.stringify({
      ...{ msg: 'request', time: 1000 * (i + 1), ms: 10, prompt_tokens: 20, completion_tokens: 60 },
      sortie: { budget_ms: 260 },
    });
  await writeFile(trace, [0, 1, 2, 3].map(line).join('\n'));
  const best = Math.max(...shape.exits.map(({ quality }) => quality));
  const run = (minQuality: number | null) =>
    simulateCommand(
      { ...simulateDefaults, trace, cost, speeds: [1], noise: 0, limits: 'stated', minQuality },
      () => undefined,
    );
  const [free] = await run(null);
  const [bound] = await run(best);
  t.ok((free?.meanQuality ?? NaN) < best - 0.01, `${free?.meanQuality} without a floor`);
  t.equal(bound?.meanQuality, best);
  await t.rejects(run(1.01), {
    message: `--min-quality must be at most ${best}, the best quality of the exits, got "1.01"`,
  });
});

void t.test("a log's own budgets are used and reported, and the plot shows depth on its own axis", async (t) => {
  const { dir, cost, trace: csv } = await files(t);
  const [trace, plot] = [join(dir, 'sortie.log'), join(dir, 'plot.svg')];
  const line = (i: number): string =>
    JSON.stringify({
      ...{ msg: 'request', time: 1000 * (i + 1), ms: 10, prompt_tokens: 600, completion_tokens: 4 },
      sortie: { budget_ms: i < 3 ? 1 : null },
    });
  await writeFile(trace, [0, 1, 2, 3].map(line).join('\n'));
  const lines: string[] = [];
  const options = { ...simulateDefaults, cost, speeds: [1, 2] };
  const [report] = await simulateCommand({ ...options, trace, plot }, (line) => lines.push(line));
  t.equal(lines[0], 'budgets: those of the log; 3 of 4 requests state a budget');
  t.same(
    report?.classes.map(({ name, requests, attainment }) => [name, requests, attainment]),
    [
      ['logged', 3, 0],
      ['none', 1, 1],
    ],
  );
  const svg = await readFile(plot, 'utf8');
  for (const text of ['mean depth', 'mean exit layer of the tokens', 'share of requests', 'logged']) t.match(svg, text);
  await simulateCommand({ ...options, trace: csv }, (line) => lines.push(line));
  t.match(lines[3], /^budgets: made up in three classes/);
});

void t.test('a greater load never keeps more budgets, but for one request in twenty', async (t) => {
  const { dir } = await files(t);
  const cost = join(packageRoot, 'test', 'quality', 'costs.json');
  const trace = join(dir, 'sortie.log');
  const request = fc.record({
    gapMs: fc.integer({ min: 1, max: 1500 }),
    prompt: fc.integer({ min: 10, max: 200 }),
    tokens: fc.constantFrom(3, 12, 26, 45, 99, 200, 500),
    isTight: fc.boolean(),
  });
  const log = fc.record({
    requests: fc.array(request, { minLength: 20, maxLength: 20 }),
    budgets: fc.constantFrom(
      { tight: 1000, loose: 4000 },
      { tight: 500, loose: 2000 },
      { tight: 300, loose: 8000 },
      { tight: 1000, loose: null },
    ),
  });
  await fc.assert(
    fc.asyncProperty(log, async ({ requests, budgets: { tight, loose } }) => {
      let time = 0;
      const lines = requests.map(({ gapMs, prompt, tokens, isTight }) =>
        JSON.stringify({
          ...{ msg: 'request', time: (time += gapMs), ms: 0, prompt_tokens: prompt, completion_tokens: tokens },
          sortie: { budget_ms: isTight ? tight : loose },
        }),
      );
      await writeFile(trace, lines.join('\n'));
      const options = { ...simulateDefaults, trace, cost, speeds: [0.1, 1, 8], noise: 0 };
      const reports = await simulateCommand(options, () => undefined);
      const [idle = NaN, usual = NaN, heavy = NaN] = reports.map(({ attainment }) => attainment);
      return idle >= usual - 0.05 && usual >= heavy - 0.05 && idle >= heavy - 0.05;
    }),
    { numRuns: 12, seed: 51 },
  );
});

void t.test('an output that is not writable fails before the simulation', async (t) => {
  const { dir, trace, cost } = await files(t);
  for (const option of ['out', 'plot']) {
    for (const [file, code] of [
      [dir, 'EISDIR'],
      [join(dir, 'no', 'such.json'), 'ENOENT'],
    ] as const) {
      const lines: string[] = [];
      const options = { ...simulateDefaults, trace, cost, speeds: [1], [option]: file };
      const run = simulateCommand(options, (line) => lines.push(line));
      await t.rejects(run, { message: `--${option} must be a file that can be written, got "${file}" (${code})` });
      t.same(lines, []);
    }
  }
});

void t.test('report and plot must be distinct files, and not an input', async (t) => {
  const { dir, trace, cost } = await files(t);
  const before = await readFile(trace, 'utf8');
  const [linked, both] = [join(dir, 'linked'), join(dir, 'both')];
  await link(cost, linked);
  for (const [places, message] of [
    [{ out: trace }, `--out must be another file than --trace, got "${trace}"`],
    [{ plot: linked }, `--plot must be another file than --cost, got "${linked}"`],
    [{ out: both, plot: both }, `--plot must be another file than --out, got "${both}"`],
  ] as const) {
    const options = { ...simulateDefaults, trace, cost, speeds: [1], ...places };
    await t.rejects(
      simulateCommand(options, () => undefined),
      { message },
    );
  }
  t.equal(await readFile(trace, 'utf8'), before);
  const nowhere = { out: '/dev/null', plot: '/dev/null' };
  const options = { ...simulateDefaults, trace, cost, speeds: [1], ...nowhere };
  t.equal((await simulateCommand(options, () => undefined)).length, 1, 'a file that keeps nothing may be both');
});

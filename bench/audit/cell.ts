/** One cell of bench:audit: a server with or without audits, under one load and seed. Must not know: other cells. */
import { rm, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { arrivalTimes } from '../../src/load/arrivals.js';
import { openLoop } from '../../src/load/run.js';
import type { Manifest } from '../../src/model/manifest.js';
import { seeded } from '../../src/util/random.js';
import { budgetsOf } from '../goodput/budgets.js';
import { jobsOf, type Question, sender } from '../goodput/job.js';
import type { Setup } from '../goodput/setup.js';
import { modelOf, sideOf } from '../goodput/side.js';
import { summaryOf } from '../goodput/summary.js';
import { startSortie } from '../server.js';

/** Identity of a cell. Load is a multiple of the throughput of full depth. */
export interface CellName {
  /** Value of `--audit`. */
  readonly audit: string;
  readonly load: number;
  readonly seed: number;
}

/** Agreement at an exit: of the tokens that it wrote, and of probes on the text of any exit. */
export interface Agreement {
  readonly written: { readonly tokens: number; readonly agreeing: number };
  /** Agreement with the served full depth in the mean of answers; null without a probe. */
  readonly probed: number | null;
  readonly answers: number;
}

export interface Cell extends CellName {
  readonly requests: number;
  /** Share of requests with an answer inside the budget. */
  readonly inTime: number;
  /** Mean over tokens of their exit's layer. */
  readonly meanExit: number;
  readonly ttftMs: readonly number[];
  /** Ended answers by outcome when the last one has ended: audited, waiting, or the reason without an audit. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** By exit layer, after the answers that still waited. */
  readonly agreement: Readonly<Record<string, Agreement>>;
  /** Engine time of audits until the last answer. */
  readonly auditSeconds: number;
}

export interface Machine {
  readonly model: string;
  readonly threads: number;
  readonly slots: number;
  /** Cache folder: the measured step costs stay, and evidence of an earlier cell goes. */
  readonly cacheDir: string;
}

/** Most time for audits that still wait when the load ends. */
const SETTLE_MS = 10_000;

export async function startServer(machine: Machine, audit: CellName['audit']) {
  const { model, threads, slots, cacheDir } = machine;
  for (const file of await readdir(cacheDir).catch(() => []))
    if (file.startsWith('quality-')) await rm(join(cacheDir, file));
  return startSortie(model, [
    ...['--threads', String(threads), '--max-running', String(slots), '--max-queue', '100000'],
    ...['--cache-dir', cacheDir, '--audit', audit, '--max-tokens-default', '1024'],
  ]);
}

/** Budgets of the classes, as multiples of the median time of full depth alone. */
const BUDGETS = '2x,4x,10x';

/** Runs a cell in a server of its own. @param seconds mean time of the arrivals */
export async function runCell(
  name: CellName,
  { perSecond, medianMs }: Setup,
  questions: readonly Question[],
  machine: Machine,
  manifest: Manifest,
  seconds: number,
): Promise<Cell> {
  const model = modelOf(manifest);
  const rate = name.load * perSecond;
  const jobs = jobsOf(questions, budgetsOf(BUDGETS, medianMs), Math.round(rate * seconds), name.seed);
  const server = await startServer(machine, name.audit);
  try {
    const send = sender(server.url, model.name, sideOf('routed', model));
    const times = arrivalTimes(jobs.length, rate, 'poisson', seeded(name.seed + 2));
    const sent = await openLoop(send, jobs, times);
    const ended = seriesOf(await textOf(`${server.url}/metrics`));
    const audited = outcomesOf(ended);
    const known = Object.values(audited).reduce((sum, count) => sum + count, 0);
    const settled = name.audit === 'off' ? ended : await settledSeries(server.url, jobs.length);
    const { inTime, meanExit } = summaryOf(sent, model.layers.at(-1) ?? 0);
    return {
      ...name,
      ...{ requests: jobs.length, inTime, meanExit },
      ttftMs: sent.map(({ answer }) => Math.round((answer.ttftMs ?? answer.totalMs) * 10) / 10),
      outcomes: name.audit === 'off' ? {} : { ...audited, waiting: jobs.length - known },
      agreement: await agreementOf(server.url, settled),
      auditSeconds: sumOf(ended, 'sortie_audit_seconds_total'),
    };
  } finally {
    await server.stop();
  }
}

/** One sample of /metrics. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Samples of the text format of Prometheus. */
export function seriesOf(text: string): Sample[] {
  return text.split('\n').flatMap((line): Sample[] => {
    const [, name, labels = '', value] = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) return [];
    const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', text = '']) => [key, text] as const);
    return [{ name, labels: Object.fromEntries(pairs), value: Number(value) }];
  });
}

/** Ended answers by outcome, without outcomes that have none. */
export function outcomesOf(series: readonly Sample[]): Record<string, number> {
  const own = series.filter(({ name, value }) => name === 'sortie_audit_answers_total' && value > 0);
  return Object.fromEntries(own.map(({ labels, value }) => [labels.outcome ?? '', value]));
}

function sumOf(series: readonly Sample[], wanted: string, labels: Sample['labels'] = {}): number {
  const isWanted = (sample: Sample): boolean =>
    sample.name === wanted && Object.entries(labels).every(([key, value]) => sample.labels[key] === value);
  return series.filter(isWanted).reduce((sum, { value }) => sum + value, 0);
}

async function settledSeries(url: string, answers: number): Promise<Sample[]> {
  const until = Date.now() + SETTLE_MS;
  for (;;) {
    const series = seriesOf(await textOf(`${url}/metrics`));
    const known = Object.values(outcomesOf(series)).reduce((sum, count) => sum + count, 0);
    if (known >= answers || Date.now() > until) return series;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

interface Props {
  readonly exits: readonly {
    readonly layer: number;
    readonly quality: { readonly audited: number | null; readonly audited_answers: number };
  }[];
}

async function agreementOf(url: string, series: readonly Sample[]): Promise<Record<string, Agreement>> {
  const { exits } = JSON.parse(await textOf(`${url}/props`)) as Props;
  return Object.fromEntries(
    exits.map(({ layer, quality }) => {
      const count = (agrees: string): number =>
        sumOf(series, 'sortie_audit_tokens_total', { exit_layer: String(layer), agrees });
      const written = { tokens: count('true') + count('false'), agreeing: count('true') };
      return [String(layer), { written, probed: quality.audited, answers: quality.audited_answers }];
    }),
  );
}

async function textOf(url: string): Promise<string> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: status ${response.status}`);
  return response.text();
}

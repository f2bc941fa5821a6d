/**
 * `sortie bench`: load with deadlines on any OpenAI-compatible server, measured by the client.
 *
 * Latency counts from the scheduled arrival of a request, so a server that stalls cannot slow the load down. A bench
 * tells the server nothing that a client does not know.
 */
import { writeFile } from 'node:fs/promises';
import { RemoteError } from '../remote/server-error.js';
import { type Chosen, chooseModel, type RemoteServer, serverAt } from '../remote/server.js';
import type { Outcome } from '../../src/protocol/outcome.js';
import { progressBar } from '../../src/util/progress-bar.js';
import { checkWritable } from './output-file.js';
import { type Answered, ask, type Heard } from './ask.js';
import { budgetHeaders } from './budgets.js';
import type { BenchJob } from './jobs.js';
import { loadText, runLines } from './lines.js';
import { type BenchOptions, FOREIGN_MAX_TOKENS } from './bench-options.js';
import { plansOf, type RunPlan } from './plans.js';
import { plotOf } from './plot.js';
import { closedLoop, openLoop, type Send, type Sent } from './run.js';
import { isMet, outcomeOfSent, type Summary, summaryOf } from './summary.js';

export interface BenchIo {
  /** Receives lines of results. */
  readonly say: (line: string) => void;
  /** Shows progress; null if it is not a terminal. */
  readonly terminal: NodeJS.WritableStream | null;
  /** Ends the bench; results of earlier answers are kept. */
  readonly signal: AbortSignal;
}

export interface BenchResult {
  readonly url: string;
  readonly model: string;
  readonly isSortie: boolean;
  readonly startedAt: string;
  readonly isInterrupted: boolean;
  readonly options: Omit<BenchOptions, 'apiKey' | 'headers'>;
  readonly runs: readonly {
    readonly rate: number | null;
    readonly clients: number | null;
    readonly summary: Summary;
    readonly requests: readonly RequestRecord[];
  }[];
}

interface Run {
  readonly plan: RunPlan;
  readonly sent: Sent<BenchJob, Heard>[];
  readonly summary: Summary;
}

type RequestRecord = Omit<BenchJob, 'asked' | 'question'> & {
  readonly atMs: number;
  readonly isMet: boolean;
  readonly outcome: Outcome;
} & Answered &
  Partial<Record<'text' | 'report', undefined>>;

/**
 * Runs the bench and writes the requested files.
 * @throws Error if the server is out of reach, lists no model, or fails the first request; or that names a wrong file
 */
export async function benchCommand(options: BenchOptions, io: BenchIo): Promise<BenchResult> {
  const server = serverAt(options.url, options.apiKey);
  const stated = plansOf(options);
  // A bench may take minutes, so check the output files first.
  await checkWritable('--out', options.out);
  await checkWritable('--plot', options.plot);
  const chosen = await chooseModel(server, options.model);
  const sendsBudgets = options.sendBudgets ?? chosen.isSortie;
  // Sortie ends the loops of a model by itself. Other servers answer to the end of the context.
  const isBounded = chosen.isSortie || options.maxTokens !== null || 'max_tokens' in options.body;
  const plans = isBounded ? stated : plansOf({ ...options, maxTokens: FOREIGN_MAX_TOKENS });
  io.say(
    `${server.baseUrl}, model ${chosen.model}${chosen.isSortie ? ' (Sortie)' : ''}; ` +
      `requests ${sendsBudgets ? 'state' : 'do not state'} their budget${isBounded ? '' : `, and max_tokens ${FOREIGN_MAX_TOKENS} (--max-tokens)`}`,
  );
  await warmUp(server, chosen, plans[0]?.jobs[0], options, io.signal);

  const startedAt = new Date().toISOString();
  const send: Send<BenchJob, Heard> = (job, scheduledAt) =>
    ask(server, chosen.model, job.asked, {
      headers: { ...options.headers, ...(sendsBudgets ? budgetHeaders(job.budget) : {}) },
      signal: AbortSignal.any([io.signal, AbortSignal.timeout(1000 * options.timeout)]),
      scheduledAt,
    });
  const runs: Run[] = [];
  for (const plan of plans) {
    const sent = await runOf(plan, send, io);
    if (sent.length === 0) break;
    const summary = summaryOf(sent);
    runs.push({ plan, sent, summary });
    for (const line of runLines(plan, summary)) io.say(line);
    if (io.signal.aborted) break;
  }
  // Headers may hold keys, as does the key itself.
  const shown = { ...options, apiKey: undefined, headers: undefined };
  const result: BenchResult = {
    url: server.baseUrl,
    model: chosen.model,
    isSortie: chosen.isSortie,
    startedAt,
    isInterrupted: io.signal.aborted,
    options: shown,
    runs: runs.map(shownRun),
  };
  if (options.out !== null) await writeFile(options.out, `${JSON.stringify(result, null, 2)}\n`);
  if (options.plot !== null && runs.length > 0) await writeFile(options.plot, `${plotOf(chosen.model, runs)}\n`);
  return result;
}

function shownRun({ plan: { rate, clients }, sent, summary }: Run): BenchResult['runs'][number] {
  return { rate, clients, summary, requests: sent.map(recordOf) };
}

const PROGRESS = '{what} {bar} {value}/{total} answered, {sent} sent, {met} in budget, {failed} failed';

/** @returns the requests with an end; an interrupt cancels the others */
async function runOf(
  plan: RunPlan,
  send: Send<BenchJob, Heard>,
  { terminal, signal }: BenchIo,
): Promise<Sent<BenchJob, Heard>[]> {
  const bar = terminal === null ? null : progressBar(PROGRESS, terminal);
  const counts = { what: loadText(plan), sent: 0, met: 0, failed: 0 };
  let done = 0;
  bar?.start(plan.jobs.length, done, counts);
  const watch = {
    signal,
    onSent: () => {
      counts.sent++;
      bar?.update(done, counts);
    },
    onAnswer: (sent: Sent<BenchJob, Heard>) => {
      if (isMet(sent)) counts.met++;
      if (sent.answer.error !== null) counts.failed++;
      bar?.update(++done, counts);
    },
  };
  try {
    const sent =
      plan.clients === null
        ? await openLoop(send, plan.jobs, plan.times, watch)
        : await closedLoop(send, plan.jobs, plan.clients, watch);
    return sent.filter(({ answer }) => answer.error?.kind !== 'cancelled');
  } finally {
    bar?.stop();
  }
}

/** The first answer allocates memory and connections that later answers reuse, and shows a wrong option. */
async function warmUp(
  server: RemoteServer,
  { model }: Chosen,
  job: BenchJob | undefined,
  { headers, timeout }: BenchOptions,
  interrupt: AbortSignal,
): Promise<void> {
  if (job === undefined) return;
  const signal = AbortSignal.any([interrupt, AbortSignal.timeout(1000 * timeout)]);
  const { error } = await ask(server, model, job.asked, { headers, signal });
  if (error !== null && !interrupt.aborted) {
    throw new RemoteError(error.kind, `the server fails the first request: ${error.message}`);
  }
}

function recordOf(sent: Sent<BenchJob, Heard>): RequestRecord {
  const { id, budgetClass, budget, maxTokens } = sent.job;
  return {
    id,
    budgetClass,
    budget,
    maxTokens,
    atMs: sent.atMs,
    isMet: isMet(sent),
    ...sent.answer,
    text: undefined,
    report: undefined,
    outcome: outcomeOfSent(sent),
  };
}

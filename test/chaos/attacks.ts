/**
 * Attacks of one client, each a load that a client of the API can make. They come from reviews by adversaries: the names
 * are those of docs/reliability.md.
 *
 * Must not know: the other clients.
 */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { readFileSync } from 'node:fs';
import { seeded } from '../../bench/loadgen/random.js';
import { post } from '../support/post.js';
import { reasonOf } from './helper.js';

/** The server under attack. Lengths of prompts and answers are shares of its context. */
export interface Target {
  readonly url: string;
  /** API key of the attacker. */
  readonly key: string;
  /** Most positions of a sequence. */
  readonly context: number;
  readonly vocabulary: number;
  /** The shallowest exit. */
  readonly exit: number;
}

/** Outcomes of an attacker's requests. */
export interface Outcomes {
  answered: number;
  /** By an error of 4xx or 503, because its own grammar took the worker along, or since its own budget ended. */
  rejected: number;
  /** The attacker disconnected. */
  left: number;
  /** Any other end, which the server must never cause: status or error. */
  readonly failed: string[];
}

export interface Attack {
  readonly name: string;
  /** Attacks until the signal aborts. */
  readonly run: (target: Target, outcomes: Outcomes, signal: AbortSignal) => Promise<void>;
}

interface AttackRequest {
  readonly body: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, string>>;
  /** Time in ms until the attacker disconnects; absent: it waits. */
  readonly leaveAfterMs?: number;
}

/** Pause after a refusal, as of an attacker that counts on the next place. */
const PAUSE_MS = 10;

/** Codes of 5xx that a request causes for itself. */
const OWN_ENDS: readonly (string | undefined)[] = ['grammars_lost', 'deadline_exceeded'];
const codeOf = (json: unknown) => (json as { error?: { code?: string } } | null)?.error?.code;

/** @returns the parsed answer; null if the attacker disconnected, or the signal aborted */
async function send(
  { url, key }: Target,
  { body, headers = {}, leaveAfterMs }: AttackRequest,
  outcomes: Outcomes,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly json: unknown } | null> {
  const leave = leaveAfterMs === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(leaveAfterMs)]);
  try {
    const ask = () => post(`${url}/v1/completions`, body, { authorization: `Bearer ${key}`, ...headers }, leave);
    // The server may close an idle connection under a request.
    const response = await ask().catch((error: unknown) => {
      if (leave.aborted || !isReset(error)) throw error;
      return ask();
    });
    const { status } = response;
    const json: unknown = await response.json();
    if (status === 200) outcomes.answered++;
    else if (status < 500 || status === 503 || OWN_ENDS.includes(codeOf(json))) outcomes.rejected++;
    else outcomes.failed.push(`${status} ${JSON.stringify(json)}`);
    if (status !== 200) await sleep(PAUSE_MS);
    return { status, json };
  } catch (error) {
    if (leave.aborted) outcomes.left++;
    else outcomes.failed.push(reasonOf(error));
    return null;
  }
}

function isReset(error: unknown): boolean {
  return (error as { cause?: { code?: string } } | null)?.cause?.code === 'ECONNRESET';
}

/** Runs so many callers at once, each of which repeats a call until the signal aborts. */
function repeated(
  name: string,
  count: number,
  callerOf: (...run: Parameters<Attack['run']>) => () => Promise<unknown>,
) {
  const run: Attack['run'] = async (target, outcomes, signal) => {
    const callers = Array.from({ length: count }, async () => {
      const call = callerOf(target, outcomes, signal);
      while (!signal.aborted) await call();
    });
    await Promise.all(callers);
  };
  return { name, run };
}

/** Callers that repeat requests. @param request the next one of a caller, by the count of all */
function callers(name: string, count: number, request: (target: Target, index: number) => AttackRequest): Attack {
  let sent = 0;
  return repeated(
    name,
    count,
    (target, outcomes, signal) => () => send(target, request(target, sent++), outcomes, signal),
  );
}

const random = seeded(1);
/** Random tokens, so that no prompt shares a prefix with another. @param share of the context */
function prompt({ context, vocabulary }: Target, share: number): number[] {
  return Array.from({ length: Math.floor(share * context) }, () => 3 + Math.floor(random() * (vocabulary - 3)));
}

const tokens = ({ context }: Target, share: number) => ({
  max_tokens: Math.max(1, Math.floor(share * context)),
  ignore_eos: true,
});

/** Repeats a rejected request with the least budget that the rejection names, and asks for many answers at once. */
const followed = repeated('rejections of 8 answers, each followed', 8, (target, outcomes, signal) => {
  let budget = 100;
  return async () => {
    const headers = within(budget, 'reject');
    const body = { prompt: 'x', n: 8, ...tokens(target, 0.005) };
    const answer = await send(target, { body, headers }, outcomes, signal);
    const { error } = (answer?.json ?? {}) as { error?: { least_feasible_budget_ms?: number | null } };
    budget = error?.least_feasible_budget_ms ?? 100;
  };
});

const UNFINISHED = Buffer.alloc(3_900_000, 'a');

/** Connections whose bodies of almost 4 MB never end. The attacker opens a closed one again. */
const unfinished = repeated('300 bodies that never end', 300, ({ url, key }, outcomes, signal) => async () => {
  const { hostname, port } = new URL(url);
  const head =
    `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n` +
    `Authorization: Bearer ${key}\r\n\r\n{"prompt": "`;
  const socket = connect(Number(port), hostname, () => {
    socket.write(head);
    socket.write(UNFINISHED);
  });
  const end = (): void => void socket.destroy();
  signal.addEventListener('abort', end);
  socket.on('error', () => undefined).resume();
  await new Promise((resolve) => socket.once('close', resolve));
  signal.removeEventListener('abort', end);
  outcomes[signal.aborted ? 'left' : 'rejected']++;
  await sleep(PAUSE_MS);
});

/** The headers of a total budget. */
const within = (ms: number, onMiss?: string) => ({
  'x-latency-budget-ms': String(ms),
  ...(onMiss !== undefined && { 'x-budget-on-miss': onMiss }),
});

/** Many kinds of costly requests at once. */
function costly(target: Target, index: number): AttackRequest {
  const { vocabulary } = target;
  const bias = Object.fromEntries(Array.from({ length: vocabulary >> 2 }, (_, id) => [String(id), id % 100]));
  const kinds: readonly AttackRequest[] = [
    { body: { prompt: 'x', logit_bias: bias, n: 4, ...tokens(target, 0.02) } },
    { body: { prompt: prompt(target, 0.1), logprobs: 5, echo: true, ...tokens(target, 0.001) } },
    { body: { prompt: 'x'.repeat(3_900_000) } },
    { body: { prompt: 'x', ...tokens(target, 0.01) }, headers: within(2, 'reject') },
    { body: { prompt: 'x', structured_outputs: { json: bomb(6) }, ...tokens(target, 0.01) } },
  ];
  return kinds[index % kinds.length] ?? { body: {} };
}

/** A schema whose grammar grows exponentially with its depth. */
function bomb(depth: number): object {
  const inner = depth === 0 ? { type: 'string', maxLength: 1000 } : bomb(depth - 1);
  return { type: 'object', properties: { a: inner, b: inner }, required: ['a'] };
}

const LATE = within(1);
const REGEX = { regex: '[a-z ]*[0-9]{4000}' };

/** A request of a caller that repeats it. @param share of the context, the length of the answer */
function fixed(share: number, body: object, more: Omit<AttackRequest, 'body'> = {}) {
  return (target: Target): AttackRequest => ({ body: { prompt: 'hi', ...tokens(target, share), ...body }, ...more });
}

export const ATTACKS: readonly Attack[] = [
  callers('40 callers without a budget', 40, fixed(0.025, {})),
  callers('40 callers with a budget of 90 s', 40, fixed(0.025, {}, { headers: within(90_000) })),
  callers('3 rows that fill the KV memory', 3, (to) => fixed(0.05, { prompt: prompt(to, 0.33) })(to)),
  callers('8 prompts of 6,000 tokens', 8, (to) => fixed(0.001, { prompt: prompt(to, 0.73) })(to)),
  callers('24 budgets of 3 s', 24, fixed(0.006, {}, { headers: within(3000) })),
  callers('24 rows with logprobs and penalties', 24, fixed(0.012, { logprobs: 5, frequency_penalty: 1 })),
  callers('24 rows at temperature 2', 24, fixed(0.012, { temperature: 2, top_p: 1, top_k: 0, min_p: 0 })),
  callers('biases, log-probabilities of prompts, 4 MB, schemas', 8, costly),
  callers('64 answers a request', 4, (to, index) =>
    fixed(0.49, { n: 64 }, index % 2 === 1 ? { headers: LATE } : {})(to),
  ),
  callers('64 answers, then a disconnect', 8, fixed(0.006, { n: 64 }, { leaveAfterMs: 30 })),
  callers('64 answers, cut after 1 ms', 8, (to) =>
    fixed(0.006, { prompt: prompt(to, 0.36), n: 64 }, { headers: within(1, 'truncate') })(to),
  ),
  callers('8 regular expressions a request', 2, fixed(0.36, { n: 8, structured_outputs: REGEX })),
  followed,
  unfinished,
];

// A client with budgets: it asks, judges its promises, and repeats a rejection at once with the budget that it names.

const REST_MS = 20;
const BODY = { max_tokens: 4 };

export interface Honest {
  readonly url: string;
  readonly key: string;
  readonly budgetMs: number;
  /** The processes of the server. */
  readonly pids: readonly number[];
}

/** The requests of all clients. */
export interface Tally {
  asked: number;
  /** Answers with the class `guaranteed`. */
  promised: number;
  /** Requests with neither an answer nor a rejection, and promises that the server broke while it had a core. */
  readonly faults: string[];
}

interface Answer {
  readonly sortie?: {
    readonly plan: { readonly service_class: string };
    readonly met?: boolean;
    readonly actual_ms: number;
  };
  readonly error?: { readonly code: string; readonly least_feasible_budget_ms?: number | null };
}

/** Asks until the signal aborts; the last request is awaited. Every other request rejects a late answer. */
export async function ask(client: Honest, tally: Tally, signal: AbortSignal): Promise<void> {
  for (let index = 0; !signal.aborted; index++) {
    try {
      const named = await one(client, client.budgetMs, index % 2 === 0, tally);
      if (named !== null) await one(client, named, true, tally);
    } catch (error) {
      tally.faults.push(reasonOf(error));
    }
    await sleep(REST_MS);
  }
}

/** @returns the budget that a rejection names; null for another end @throws Error for any other status */
async function one({ url, key, pids }: Honest, budget: number, rejects: boolean, tally: Tally): Promise<number | null> {
  tally.asked++;
  const waitedBefore = pids.map(waitedMs);
  const headers = { authorization: `Bearer ${key}`, ...within(budget, rejects ? 'reject' : undefined) };
  const body = { prompt: `Question ${tally.asked}: name a river.`, ...BODY };
  const response = await post(`${url}/v1/completions`, body, headers);
  const { sortie, error } = (await response.json()) as Answer;
  if (error?.code === 'budget_infeasible') return error.least_feasible_budget_ms ?? null;
  if (response.status !== 200 || sortie === undefined) throw new Error(`${response.status} ${JSON.stringify(error)}`);
  if (sortie.plan.service_class !== 'guaranteed') return null;
  tally.promised++;
  // Two processes may wait at the same time, so only the longer wait counts.
  const waited = Math.max(...pids.map((pid, i) => waitedMs(pid) - (waitedBefore[i] ?? 0)));
  if (sortie.met !== true && sortie.actual_ms - waited > budget)
    tally.faults.push(`promised ${budget} ms, took ${sortie.actual_ms}, ${waited.toFixed(0)} of them without a core`);
  return null;
}

/**
 * Time in ms that the main thread of a process has waited for a core while it could run. On a machine with other work, a
 * part of each answer's time. 0 for a process that has ended.
 */
function waitedMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}

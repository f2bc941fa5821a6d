/** Honest clients with budgets beside one attacker, one attack after another: what do the honest ones see? */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { loadavg } from 'node:os';
import { quantile } from '../../src/util/stats.js';
import type { Outcomes, Target } from './attacks.js';
import { ask, BUDGETS_MS, newTally, type Tally } from './honest.js';
import { childrenOf, residentMb } from './memory.js';
import { liveAtRest, type SoakServer, waits } from './server.js';

/** Honest clients, each with a key of its own. */
export const CLIENTS = 10;
const MAX_TOKENS = 32;
const PAUSE_MS = 1000;
const SAMPLE_MS = 1000;
/** Least share of kept promises. A promise that the machine broke, by its other work, does not count. */
export const KEPT = 0.99;
/** Most growth of an idle server's resident memory over all attacks in MB, beside the KV memory, which fills. */
export const GROWTH_MB = 200;
/** Most polls until the server is idle after an attack. A poll of a busy machine takes seconds. */
const IDLE_POLLS = 300;

export const honestKey = (index: number): string => `sk-honest-${index}`;

export interface Row {
  readonly name: string;
  readonly tally: Tally;
  readonly outcomes: Outcomes | null;
  /** Resident memory of both processes in MB. */
  readonly memory: { readonly start: number; readonly most: number; readonly end: number };
  /** Sequences that are left when the server should be idle. */
  readonly left: number;
  /** Whether the engine process ended under the attack. */
  readonly isEngineLost: boolean;
}

/** @param name of the attack; null: the honest clients are alone */
export async function underAttack(
  server: SoakServer,
  name: string | null,
  seconds: number,
  target: Target,
): Promise<Row> {
  const { engine } = server;
  const memory = () => residentMb(server.gateway) + residentMb(server.engine);
  const start = memory();
  const samples = [start];
  const sampler = setInterval(() => {
    // An engine that ended is a fault of its row.
    if (childrenOf(server.gateway).includes(engine)) samples.push(memory());
  }, SAMPLE_MS);
  const attacker =
    name === null
      ? null
      : fork(fileURLToPath(new URL('./attacker.js', import.meta.url)), [name, JSON.stringify(target)]);
  try {
    const tally = newTally();
    const signal = AbortSignal.timeout(seconds * 1000);
    const honest = (index: number) => ({
      ...{ url: server.url, key: honestKey(index), body: { max_tokens: MAX_TOKENS } },
      ...{ budgets: BUDGETS_MS, pauseMs: PAUSE_MS, waitedMs: waits(server) },
    });
    await Promise.all(Array.from({ length: CLIENTS }, (_, index) => ask(honest(index), tally, signal)));
    let outcomes: Outcomes | null = null;
    if (attacker !== null) {
      const told = once(attacker, 'message');
      attacker.send('over');
      [outcomes] = (await told) as [Outcomes];
    }
    const left = await liveAtRest(server, IDLE_POLLS);
    return {
      name: name ?? 'none',
      tally,
      outcomes,
      left,
      isEngineLost: server.engine !== engine,
      memory: { start, most: Math.max(...samples), end: memory() },
    };
  } finally {
    clearInterval(sampler);
    attacker?.disconnect();
  }
}

/** Faults of a row against the bounds; empty for none. @param mostMb resident memory of the idle server */
export function faultsOf({ tally, outcomes, memory, left, isEngineLost }: Row, mostMb: number): string[] {
  const { promised, kept, starved, lost, times } = tally;
  const broken = promised - kept - starved;
  return [
    ...(times.length === 0 ? ['no answer'] : []),
    ...(broken > (1 - KEPT) * promised ? [`${broken} promises broken`] : []),
    ...(lost > 0 ? [`${lost} requests lost`] : []),
    ...(outcomes !== null && outcomes.failed.length > 0
      ? [`attacks ended in errors: ${outcomes.failed.join('; ')}`]
      : []),
    ...(memory.end > mostMb ? [`memory grew to ${memory.end.toFixed(0)} MB`] : []),
    ...(left > 0 ? [`${left} sequences left`] : []),
    ...(isEngineLost ? ['the engine process ended'] : []),
  ];
}

export const HEAD = [
  ...['Attack', 'Asked', 'Promised', 'Kept', 'Starved', 'Lost', 'Rejected', 'Unnamed', 'Followed (kept)'],
  ...['p50, p95, most (s)', 'Memory (MB)', 'Attacker', 'Load'],
];

export function cellsOf({ name, tally, outcomes, memory }: Row): string[] {
  const at = (share: number): string => (quantile(tally.times, share) / 1000).toFixed(1);
  const { answered, rejected, left, failed } = outcomes ?? { failed: [] };
  return [
    name,
    ...[tally.asked, tally.promised, tally.kept, tally.starved, tally.lost, tally.rejected, tally.unnamed].map(String),
    `${tally.followed} (${tally.followedKept})`,
    [0.5, 0.95, 1].map(at).join(', '),
    [memory.start, memory.most, memory.end].map((mb) => mb.toFixed(0)).join(', '),
    outcomes === null ? '-' : `${answered} answered, ${rejected} rejected, ${left} left, ${failed.length} failed`,
    (loadavg()[0] ?? NaN).toFixed(0),
  ];
}

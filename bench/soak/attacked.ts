/** Honest clients with budgets beside one attacker, one attack after another: what do the honest ones see? */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { loadavg } from 'node:os';
import type { Outcomes, Target } from './attacks.js';
import { ask, newTally, type Tally } from './honest.js';
import { childrenOf, residentMb, waitedMs } from './memory.js';
import { live, type SoakServer } from './server.js';

/** Honest clients, each with a key of its own. */
export const CLIENTS = 10;
const BUDGETS_MS = [4000, 8000, 16_000];
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

interface Memory {
  readonly start: number;
  readonly most: number;
  readonly end: number;
}

export interface Row {
  readonly name: string;
  readonly tally: Tally;
  readonly outcomes: Outcomes | null;
  readonly memory: Memory;
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
      ...{ budgets: BUDGETS_MS, pauseMs: PAUSE_MS, waitedMs: () => [server.gateway, engine].map(waitedMs) },
    });
    await Promise.all(Array.from({ length: CLIENTS }, (_, index) => ask(honest(index), tally, signal)));
    let outcomes: Outcomes | null = null;
    if (attacker !== null) {
      const told = once(attacker, 'message');
      attacker.send('over');
      [outcomes] = (await told) as [Outcomes];
    }
    let left = await live(server.url);
    const isDown = () => childrenOf(server.gateway).length === 0;
    for (let polls = 0; polls < IDLE_POLLS && (left > 0 || isDown()); polls++) {
      await sleep(200);
      left = await live(server.url);
    }
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
  '| Attack | Asked | Promised | Kept | Starved | Lost | Rejected | Unnamed | Followed (kept) | p50, p95, most (s) | Memory (MB) | Attacker | Load |',
  '| - | - | - | - | - | - | - | - | - | - | - | - | - |',
].join('\n');

export function line(row: Row): string {
  const { tally, outcomes, memory } = row;
  const times = tally.times.toSorted((a, b) => a - b);
  const at = (share: number) =>
    ((times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? NaN) / 1000).toFixed(1);
  const attacker =
    outcomes === null
      ? '-'
      : `${outcomes.answered} answered, ${outcomes.rejected} rejected, ${outcomes.left} left, ${outcomes.failed.length} failed`;
  return `| ${[
    row.name,
    ...[tally.asked, tally.promised, tally.kept, tally.starved, tally.lost, tally.rejected, tally.unnamed],
    `${tally.followed} (${tally.followedKept})`,
    `${at(0.5)}, ${at(0.95)}, ${at(1)}`,
    `${memory.start.toFixed(0)}, ${memory.most.toFixed(0)}, ${memory.end.toFixed(0)}`,
    attacker,
    (loadavg()[0] ?? NaN).toFixed(0),
  ].join(' | ')} |`;
}

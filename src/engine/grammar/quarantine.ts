/**
 * Grammars that recently broke their thread. They are rejected for a while, so that no grammar breaks two threads.
 *
 * Must not know: threads.
 */
import { createHash } from 'node:crypto';
import { monotonicMs } from '../../util/clock.js';
import { Latest } from '../../util/latest.js';
import type { Grammar } from '../../protocol/index.js';

/** Clients retry twice within seconds. A machine that starved a thread may have recovered after this time. */
const QUARANTINE_MS = 60_000;
/** Most grammars in quarantine. */
const MAX_GRAMMARS = 256;

export class Quarantine {
  /** By digest. */
  readonly #known = new Latest<{ readonly until: number; readonly error: Error }>(MAX_GRAMMARS);
  readonly #clock: () => number;

  constructor(clock: () => number = monotonicMs) {
    this.#clock = clock;
  }

  add(grammar: Grammar, error: Error): void {
    this.#known.set(digestOf(grammar), { until: this.#clock() + QUARANTINE_MS, error });
  }

  /** @throws the error of this grammar while it is in quarantine */
  check(grammar: Grammar): void {
    if (this.#known.size === 0) return;
    const found = this.#known.get(digestOf(grammar));
    if (found !== undefined && this.#clock() < found.until) throw found.error;
  }
}

function digestOf(grammar: Grammar): string {
  return createHash('sha256').update(JSON.stringify(grammar)).digest('base64');
}

/**
 * Grammars that took their thread along a short while ago, so that none does it twice in a row.
 *
 * Knows: grammars as data, and the errors that came of them. Must not know: threads.
 */
import { createHash } from 'node:crypto';
import { monotonicMs } from '../../util/clock.js';
import type { Grammar } from '../protocol.js';

/** Clients try twice more by themselves, within seconds; what starved a thread may be over after that. */
const QUARANTINE_MS = 60_000;
const MOST = 256;

export class Quarantine {
  /** By digest, oldest first. */
  readonly #known = new Map<string, { readonly until: number; readonly error: Error }>();

  constructor(private readonly clock: () => number = monotonicMs) {}

  add(grammar: Grammar, error: Error): void {
    const digest = digestOf(grammar);
    this.#known.delete(digest);
    this.#known.set(digest, { until: this.clock() + QUARANTINE_MS, error });
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST && oldest !== undefined) this.#known.delete(oldest);
  }

  /** @throws the error that came of this grammar lately */
  check(grammar: Grammar): void {
    if (this.#known.size === 0) return;
    const found = this.#known.get(digestOf(grammar));
    if (found !== undefined && this.clock() < found.until) throw found.error;
  }
}

function digestOf(grammar: Grammar): string {
  return createHash('sha256').update(JSON.stringify(grammar)).digest('base64');
}

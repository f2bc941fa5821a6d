/**
 * Whether a net starts beside its upstream at once: by the last answers to one tenant, so that the requests of one
 * start no other's nets. Where more than a tenth of them had no first part in time, a fifth of the upstream's answers
 * without a net beside them get one. The share falls back in steps as answers are in time (AIMD). Pure.
 */
import { Latest } from '../../util/latest.js';

/** An exit of the local model. */
export interface ExitAccuracy {
  readonly layer: number;
  /** Share of right answers. */
  readonly accuracy: number;
}

/**
 * The most right answers of an exit whose first sentence fits. The time of a sentence grows with the layers.
 * @param exits that the answer may have, shallowest first
 * @param sentenceMs at the shallowest one
 */
export function accuracyWithin(exits: readonly ExitAccuracy[], sentenceMs: number, roomMs: number): number {
  const [shallowest] = exits;
  if (shallowest === undefined) return 0;
  const fitting = exits.filter(({ layer }) => (sentenceMs * layer) / shallowest.layer <= roomMs);
  return Math.max(shallowest.accuracy, ...fitting.map(({ accuracy }) => accuracy));
}

/**
 * - `latest`: at the latest start. `ahead`: at once, and its text waits as long as that of a late start.
 * - `rival`: at once, and its text goes out with its first sentence: the upstream is right less often.
 */
export type NetStart = 'latest' | 'ahead' | 'rival';

/** Answers that count, and the shares of breaches above which a step is taken, and below which it is taken back. */
const RECENT = 20;
const MANY = 0.1;
const FEW = 0.03;
const FACTOR = 0.8;
const STEP_BACK = 0.05;
/** Of an upstream; the idlest are forgotten. */
const MOST_TENANTS = 1000;

class Tenant {
  readonly #breaches: boolean[] = [];
  /** Share of answers whose net waits for its latest start. */
  #alone = 1;
  /** Early starts that the share owes. */
  #owed = 0.5;

  isEarly(): boolean {
    this.#owed += 1 - this.#alone;
    if (this.#owed < 1) return false;
    this.#owed -= 1;
    return true;
  }

  observe(isBreach: boolean): void {
    this.#breaches.push(isBreach);
    if (this.#breaches.length > RECENT) this.#breaches.shift();
    const share = this.#breaches.filter(Boolean).length / this.#breaches.length;
    if (share > MANY) this.#alone *= FACTOR;
    else if (share < FEW) this.#alone = Math.min(1, this.#alone + STEP_BACK);
  }
}

/** Of one upstream. */
export class EarlyStarts {
  readonly #tenants = new Latest<Tenant>(MOST_TENANTS);

  /** Whether the net of this answer starts early. */
  isEarly(name: string): boolean {
    return this.#tenants.get(name)?.isEarly() ?? false;
  }

  /** @param isBreach whether the upstream had no first part in time. A failed try is none: its net starts at once. */
  observe(name: string, isBreach: boolean): void {
    const tenant = this.#tenants.get(name) ?? new Tenant();
    this.#tenants.set(name, tenant);
    tenant.observe(isBreach);
  }
}

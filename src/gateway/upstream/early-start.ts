/**
 * Whether a net starts beside its upstream at once: by the last answers to one tenant, so that the requests of one
 * start no other's nets. Where more than a tenth of them had no first part in time, a fifth of the upstream's answers
 * without a net beside them get one. The share falls back in steps as answers are in time (AIMD). Pure.
 */
import { Latest } from '../../util/latest.js';

/** Answers that count, and the shares of breaches above which a step is taken, and below which it is taken back. */
const RECENT = 20;
const MANY = 0.1;
const FEW = 0.03;
const FACTOR = 0.8;
const STEP_BACK = 0.05;
/** Of an upstream; the idlest are forgotten. */
const MOST_TENANTS = 1000;

interface Tenant {
  readonly breaches: boolean[];
  /** Share of answers whose net waits for its latest start. */
  alone: number;
  /** Early starts that the share owes. */
  owed: number;
}

/** Of one upstream. */
export class EarlyStarts {
  readonly #tenants = new Latest<Tenant>(MOST_TENANTS);

  /** Whether the net of this answer starts early. It counts as a start. */
  isEarly(name: string): boolean {
    const tenant = this.#tenants.get(name);
    if (tenant === undefined) return false;
    tenant.owed += 1 - tenant.alone;
    if (tenant.owed < 1) return false;
    tenant.owed -= 1;
    return true;
  }

  /** @param isBreach whether the upstream had no first part in time. A failed try is none: its net starts at once. */
  observe(name: string, isBreach: boolean): void {
    const tenant = this.#tenants.get(name) ?? { breaches: [], alone: 1, owed: 0.5 };
    this.#tenants.set(name, tenant);
    const { breaches } = tenant;
    breaches.push(isBreach);
    if (breaches.length > RECENT) breaches.shift();
    const share = breaches.filter(Boolean).length / breaches.length;
    if (share > MANY) tenant.alone *= FACTOR;
    else if (share < FEW) tenant.alone = Math.min(1, tenant.alone + STEP_BACK);
  }
}

/**
 * Tokens that each API key has used since midnight (UTC), kept in the cache folder over restarts.
 *
 * Must not know: limits, keys (callers pass a digest).
 */
import { Type } from '../../util/schema.js';
import { StoredValue } from '../../util/stored-value.js';

const DAY_MS = 86_400_000;

const Stored = Type.Object({
  version: Type.Literal(1),
  /** Days since 1970. */
  day: Type.Integer(),
  used: Type.Record(Type.String(), Type.Number({ minimum: 0 })),
});

/** Whether a count belongs to today. A clock that is set back over midnight begins no second day. */
function isPresent(day: number, today: number): boolean {
  return day === today || day === today + 1;
}

export class DailyTokens {
  readonly #store: StoredValue<typeof Stored> | null;
  readonly #now: () => number;
  #day: number;
  #used = new Map<string, number>();

  /**
   * @param file null keeps the counts in memory
   * @param failed gets the reason of a failed read or write, for the log
   * @param now milliseconds since 1970
   */
  constructor(
    file: string | null,
    failed: (reason: string) => void = () => undefined,
    now: () => number = () => Date.now(),
  ) {
    this.#now = now;
    this.#day = this.#today();
    const content = 'the tokens of a day';
    const value = () => ({ version: 1, day: this.#day, used: Object.fromEntries(this.#used) });
    this.#store =
      file === null ? null : new StoredValue(file, { schema: Stored, content, writeMs: 10_000, value, failed });
    const stored = this.#store?.read();
    if (stored != null && isPresent(stored.day, this.#day)) {
      this.#day = stored.day;
      this.#used = new Map(Object.entries(stored.used));
    }
  }

  /** Tokens of this day. */
  used(id: string): number {
    this.#turn();
    return this.#used.get(id) ?? 0;
  }

  /** Takes tokens. @returns gives the unused ones back, unless their day is over */
  take(id: string, tokens: number): (used: number) => void {
    this.#add(id, tokens);
    const day = this.#day;
    return (used) => {
      this.#turn();
      if (day === this.#day) this.#add(id, used - tokens);
    };
  }

  /** Milliseconds until midnight (UTC). */
  msLeft(): number {
    this.#turn();
    return (this.#day + 1) * DAY_MS - this.#now();
  }

  /** Writes counts that are not written yet. */
  close(): void {
    this.#store?.close();
  }

  #today(): number {
    return Math.floor(this.#now() / DAY_MS);
  }

  #turn(): void {
    const today = this.#today();
    if (isPresent(this.#day, today)) return;
    this.#day = today;
    this.#used = new Map();
  }

  #add(id: string, tokens: number): void {
    this.#used.set(id, Math.max(0, this.used(id) + tokens));
    this.#store?.changed();
  }
}

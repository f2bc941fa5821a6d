/**
 * Tokens that each API key has used since midnight (UTC), kept in the cache folder over restarts.
 *
 * Must not know: limits, keys (callers pass a digest). A folder that fails costs the counts of a restart, and nothing
 * else.
 */
import { readCacheFile, writeCacheFile } from '../util/cache-file.js';
import { isValid, Type } from '../util/schema.js';

/** Time between writes. A killed server forgets the use of this time. */
const WRITE_MS = 10_000;

const DAY_MS = 86_400_000;

const Stored = Type.Object({
  version: Type.Literal(1),
  /** Days since 1970. */
  day: Type.Integer(),
  used: Type.Record(Type.String(), Type.Number({ minimum: 0 })),
});

export class DailyTokens {
  readonly #file: string | null;
  readonly #failed: (reason: string) => void;
  readonly #now: () => number;
  #day: number;
  #used = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;

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
    this.#file = file;
    this.#failed = failed;
    this.#now = now;
    this.#day = this.#today();
    this.#restore();
  }

  /** Tokens of this day. */
  used(id: string): number {
    this.#turn();
    return this.#used.get(id) ?? 0;
  }

  /** Takes tokens. @returns gives the unused ones back, unless their day is over */
  take(id: string, tokens: number): (used: number) => void {
    const day = this.#today();
    this.#add(id, tokens);
    return (used) => {
      if (day === this.#today()) this.#add(id, used - tokens);
    };
  }

  /** Milliseconds until midnight (UTC). */
  msLeft(): number {
    return DAY_MS - (this.#now() % DAY_MS);
  }

  /** Writes counts that are not written yet. */
  close(): void {
    if (this.#timer !== null) this.#write();
  }

  #today(): number {
    return Math.floor(this.#now() / DAY_MS);
  }

  #turn(): void {
    const today = this.#today();
    if (today === this.#day) return;
    this.#day = today;
    this.#used = new Map();
  }

  #add(id: string, tokens: number): void {
    this.#used.set(id, Math.max(0, this.used(id) + tokens));
    if (this.#file === null) return;
    this.#timer ??= setTimeout(() => {
      this.#write();
    }, WRITE_MS).unref();
  }

  #restore(): void {
    if (this.#file === null) return;
    const { text, why } = readCacheFile(this.#file);
    if (why !== null) this.#failed(why);
    if (text === null) return;
    try {
      const stored: unknown = JSON.parse(text);
      if (!isValid(Stored, stored)) throw new Error('the file has another shape');
      if (stored.day === this.#day) this.#used = new Map(Object.entries(stored.used));
    } catch {
      this.#failed(`${this.#file} does not hold the tokens of a day`);
    }
  }

  #write(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#file === null) return;
    const stored = { version: 1, day: this.#day, used: Object.fromEntries(this.#used) };
    const why = writeCacheFile(this.#file, JSON.stringify(stored));
    if (why !== null) this.#failed(why);
  }
}

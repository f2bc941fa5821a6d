/**
 * A value in a cache file, which a restarted process reads. A folder that fails costs the value and nothing else.
 *
 * Must not know: the meaning of the value.
 */
import { readCacheFile, writeCacheFile } from './cache-file.js';
import { isValid, type Static, type TSchema } from './schema.js';

interface Parts<T extends TSchema> {
  readonly schema: T;
  /** The value in words, for the log. */
  readonly content: string;
  /** Time between writes. A killed process loses the changes of this time. */
  readonly writeMs: number;
  /** The value of this moment. */
  readonly value: () => object;
  /** Gets the reason of a failed read or write, for the log. */
  readonly failed: (reason: string) => void;
}

export class StoredValue<T extends TSchema> {
  #timer: NodeJS.Timeout | null = null;
  readonly #file: string;
  readonly #parts: Parts<T>;

  constructor(file: string, parts: Parts<T>) {
    this.#file = file;
    this.#parts = parts;
  }

  /** The stored value; null without a usable one. */
  read(): Static<T> | null {
    const { schema, content, failed } = this.#parts;
    const { text, why } = readCacheFile(this.#file);
    if (why !== null) failed(why);
    if (text === null) return null;
    try {
      const stored: unknown = JSON.parse(text);
      if (isValid(schema, stored)) return stored;
    } catch {
      // The line below reports a text that is not JSON as well.
    }
    failed(`${this.#file} does not hold ${content}`);
    return null;
  }

  /** Writes soon: the value has changed. */
  changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#write();
    }, this.#parts.writeMs).unref();
  }

  /** Writes a change that is not written yet. */
  close(): void {
    if (this.#timer !== null) this.#write();
  }

  #write(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const why = writeCacheFile(this.#file, JSON.stringify(this.#parts.value()));
    if (why !== null) this.#parts.failed(why);
  }
}

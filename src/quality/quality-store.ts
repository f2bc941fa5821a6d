/**
 * Keeps the evidence of audits in the cache folder, so that a restarted server goes on with its estimates.
 *
 * Must not know: how estimates are made. A folder that fails costs the evidence of a restart, and nothing else.
 */
import { join } from 'node:path';
import { isValid, Type } from '../util/schema.js';
import { readCacheFile, writeCacheFile } from '../util/cache-file.js';
import type { ExitQuality } from './exit-quality.js';

/** Time between writes. A killed server loses the evidence of this time. */
const WRITE_MS = 30_000;

const sum = Type.Number({ minimum: 0 });
const Stored = Type.Object({
  version: Type.Literal(1),
  /** SHA-256 of the manifest. */
  model: Type.String(),
  cells: Type.Array(
    Type.Object({
      kind: Type.String(),
      key: Type.Union([Type.String(), Type.Null()]),
      exits: Type.Array(Type.Object({ answers: sum, agreement: sum })),
    }),
  ),
});

export class QualityStore {
  readonly #file: string;
  readonly #model: string;
  readonly #quality: ExitQuality;
  readonly #failed: (reason: string) => void;
  #timer: NodeJS.Timeout | null = null;

  /**
   * @param model SHA-256 of the manifest
   * @param failed gets the reason of a failed read or write, for the log
   */
  constructor(dir: string, model: string, quality: ExitQuality, failed: (reason: string) => void) {
    this.#file = join(dir, `quality-${model.slice(0, 24)}.json`);
    this.#model = model;
    this.#quality = quality;
    this.#failed = failed;
  }

  /** Gives the stored evidence to the estimates. */
  restore(): void {
    const { text, why } = readCacheFile(this.#file);
    if (why !== null) this.#failed(why);
    if (text === null) return;
    try {
      const stored: unknown = JSON.parse(text);
      if (!isValid(Stored, stored) || stored.model !== this.#model)
        throw new Error('the file has another shape or model');
      this.#quality.restore(stored.cells);
    } catch {
      this.#failed(`${this.#file} does not hold the evidence of audits of this model`);
    }
  }

  /** Writes soon: new evidence has arrived. */
  changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#write();
    }, WRITE_MS).unref();
  }

  /** Writes evidence that is not written yet. */
  close(): void {
    if (this.#timer !== null) this.#write();
  }

  #write(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const stored = { version: 1, model: this.#model, cells: this.#quality.cells() };
    const why = writeCacheFile(this.#file, JSON.stringify(stored));
    if (why !== null) this.#failed(why);
  }
}

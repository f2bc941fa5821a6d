/** The control data of one unit in device memory: which positions of which pages a run covers. */
import type { Gpu, Upload } from '../runtime/device.js';
import { hostI32 } from '../runtime/tensor.js';

/** A part of a batch: consecutive positions of one sequence. */
export interface BatchPart {
  /** Positions before the part. */
  readonly past: number;
  readonly count: number;
  /** The sequence's pages; they hold past + count positions. */
  readonly pages: readonly number[];
}

export interface UnitBatch {
  readonly parts: readonly BatchPart[];
  /** Rows of the store that each position reads and writes, in the order of the parts. */
  readonly rowsIn: readonly number[];
  readonly rowsOut: readonly number[];
}

/** Where the positions that fill a bucket write. */
export interface Spare {
  readonly row: number;
  readonly page: number;
}

/** The number of rows that a captured graph of a batch has: few, so that few graphs serve all batches. */
export function bucketOf(rows: number, most: number): number {
  return Math.min(most, 2 ** Math.ceil(Math.log2(rows)));
}

/** All buckets for up to `most` rows. */
export function buckets(most: number): number[] {
  return [...new Set(Array.from({ length: most }, (_, i) => bucketOf(i + 1, most)))];
}

export class Control {
  readonly rowsIn: bigint;
  readonly rowsOut: bigint;
  readonly cumulative: bigint;
  readonly pasts: bigint;
  readonly table: bigint;
  /** The longest part and the longest sequence, in main memory: the provider reads them before it starts the kernels. */
  readonly bounds = hostI32(2);
  /** Sizes of the last batch: positions, parts, columns of the table. */
  shape = { tokens: 0, parts: 0, pages: 0 };
  readonly #most: { readonly tokens: number; readonly parts: number; readonly pages: number };
  readonly #capacity: number;

  /**
   * @param most positions, parts and pages of a sequence
   * @param capacity most positions of a sequence
   */
  constructor(
    device: Gpu,
    most: { readonly tokens: number; readonly parts: number; readonly pages: number },
    capacity: number,
  ) {
    this.#most = most;
    this.#capacity = capacity;
    const { tokens, parts, pages } = most;
    const sizes = [tokens * 8, tokens * 8, (parts + 1) * 4, parts * 4, parts * pages * 4];
    const [rowsIn = 0n, rowsOut = 0n, cumulative = 0n, pasts = 0n, table = 0n] = device.allocInputs(sizes);
    this.rowsIn = rowsIn;
    this.rowsOut = rowsOut;
    this.cumulative = cumulative;
    this.pasts = pasts;
    this.table = table;
  }

  /** Fills a batch of single positions up to its bucket. Its sizes and bounds are those of every batch of the bucket. */
  fillBucket({ parts, rowsIn, rowsOut }: UnitBatch, { row, page }: Spare): Upload[] {
    const more = new Array<number>(bucketOf(parts.length, this.#most.parts) - parts.length).fill(0);
    const padded = {
      parts: [...parts, ...more.map(() => ({ past: 0, count: 1, pages: [page] }))],
      rowsIn: [...rowsIn, ...more.map(() => row)],
      rowsOut: [...rowsOut, ...more.map(() => row)],
    };
    const uploads = this.fill(padded, this.#most.pages);
    this.bounds.data[1] = this.#capacity;
    return uploads;
  }

  /**
   * Prepares the uploads of a batch.
   * @param columns columns of the table, where the batch does not decide
   * @throws RangeError if it has too many positions or parts
   */
  fill({ parts, rowsIn, rowsOut }: UnitBatch, columns?: number): Upload[] {
    if (parts.length > this.#most.parts || rowsIn.length > this.#most.tokens)
      throw new RangeError(`a batch of ${parts.length} parts and ${rowsIn.length} positions is too large`);
    const cumulative = new Int32Array(parts.length + 1);
    parts.forEach(({ count }, i) => (cumulative[i + 1] = (cumulative[i] ?? 0) + count));
    const longest = Math.max(...parts.map(({ past, count }) => past + count));
    this.bounds.data[0] = Math.max(...parts.map(({ count }) => count));
    this.bounds.data[1] = longest;
    // Few different widths, so that bindings serve many batches.
    const used = Math.max(...parts.map(({ pages }) => pages.length));
    const pages = columns ?? Math.min(this.#most.pages, 2 ** Math.ceil(Math.log2(used)));
    const table = new Int32Array(parts.length * pages);
    parts.forEach((part, row) => {
      table.set(part.pages, row * pages);
    });
    this.shape = { tokens: rowsIn.length, parts: parts.length, pages };
    const upload = (target: bigint, array: BigInt64Array | Int32Array): Upload => ({
      target,
      source: new Uint8Array(array.buffer),
    });
    return [
      upload(this.rowsIn, BigInt64Array.from(rowsIn, BigInt)),
      upload(this.rowsOut, BigInt64Array.from(rowsOut, BigInt)),
      upload(this.cumulative, cumulative),
      upload(
        this.pasts,
        Int32Array.from(parts, ({ past }) => past),
      ),
      upload(this.table, table),
    ];
  }
}

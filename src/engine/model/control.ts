/** The control data of a batch: which positions of which pages its runs cover, in main memory and on the device. */
import type { InputAreas } from '../runtime/device.js';
import type { ModelUnit } from './graphs.js';

/** A part of a batch: consecutive positions of one sequence. */
export interface BatchPart {
  /** Positions before the part. */
  readonly past: number;
  readonly count: number;
  /** The sequence's pages; they hold past + count positions. */
  readonly pages: readonly number[];
}

/** Sizes of a batch: positions, parts, columns of the table. */
export interface BatchShape {
  readonly tokens: number;
  readonly parts: number;
  readonly pages: number;
}

/** The number of rows that a captured graph of a batch has: few, so that few graphs serve all batches. */
export function bucketOf(rows: number, most: number): number {
  return Math.min(most, 2 ** Math.ceil(Math.log2(rows)));
}

/** All buckets for up to `most` rows. */
export function buckets(most: number): number[] {
  return [...new Set(Array.from({ length: most }, (_, i) => bucketOf(i + 1, most)))];
}

/** Input areas of one control. */
export const CONTROL_AREAS = 4;

/** Bytes of the areas of a control: rows, cumulative, pasts, table. */
export function controlSizes({ tokens, parts, pages }: BatchShape): number[] {
  return [tokens * 8, (parts + 1) * 4, parts * 4, parts * pages * 4];
}

export class Control {
  /** Rows of the positions in stores with pages, i64; first positions of the parts; positions before them; pages. */
  readonly rows: bigint;
  readonly cumulative: bigint;
  readonly pasts: bigint;
  readonly table: bigint;
  /** Sizes of the last batch. */
  shape: BatchShape = { tokens: 0, parts: 0, pages: 0 };
  /** Rows of 64 bits as pairs of words; the high words stay zero. */
  readonly #rows: Int32Array;
  readonly #cumulative: Int32Array;
  readonly #pasts: Int32Array;
  readonly #table: Int32Array;
  readonly #most: BatchShape;
  readonly #page: number;

  /**
   * @param first index of the control's first area
   * @param page positions of a page
   */
  constructor(
    areas: InputAreas,
    readonly first: number,
    most: BatchShape,
    page: number,
  ) {
    this.#most = most;
    this.#page = page;
    const [rows = 0n, cumulative = 0n, pasts = 0n, table = 0n] = areas.addresses.slice(first, first + CONTROL_AREAS);
    this.rows = rows;
    this.cumulative = cumulative;
    this.pasts = pasts;
    this.table = table;
    this.#rows = intsOf(areas, first);
    this.#cumulative = intsOf(areas, first + 1);
    this.#pasts = intsOf(areas, first + 2);
    this.#table = intsOf(areas, first + 3);
  }

  /**
   * Writes a batch.
   * @throws RangeError if it has too many positions or parts
   */
  fill(parts: readonly BatchPart[]): void {
    let used = 1;
    for (const { pages } of parts) used = Math.max(used, pages.length);
    // Few different widths, so that bindings serve many batches.
    this.#write(parts, parts.length, Math.min(this.#most.pages, 2 ** Math.ceil(Math.log2(used))), 0);
  }

  /**
   * Writes a batch of single positions, filled up to its bucket. Its sizes are those of every batch of the bucket.
   * @param spare page that the positions behind the batch write
   */
  fillBucket(parts: readonly BatchPart[], spare: number): void {
    this.#write(parts, bucketOf(parts.length, this.#most.parts), this.#most.pages, spare);
  }

  /** Bytes of each area that the last batch used. */
  get used(): number[] {
    return controlSizes(this.shape);
  }

  #write(parts: readonly BatchPart[], rows: number, columns: number, spare: number): void {
    const filler: BatchPart = { past: 0, count: 1, pages: [spare] };
    let tokens = 0;
    for (let row = 0; row < rows; row++) {
      const { past, count, pages } = parts[row] ?? filler;
      if (rows > this.#most.parts || tokens + count > this.#most.tokens)
        throw new RangeError(`a batch of ${rows} parts and ${tokens + count} positions is too large`);
      this.#cumulative[row] = tokens;
      this.#pasts[row] = past;
      const start = row * columns;
      for (let i = 0; i < pages.length; i++) this.#table[start + i] = pages[i] ?? 0;
      // Entries behind the sequence's pages are read by no kernel, but must be pages.
      this.#table.fill(0, start + pages.length, start + columns);
      this.#writeRows(tokens, past, count, pages);
      tokens += count;
    }
    this.#cumulative[rows] = tokens;
    this.shape = { tokens, parts: rows, pages: columns };
  }

  #writeRows(first: number, past: number, count: number, pages: readonly number[]): void {
    const size = this.#page;
    for (let i = 0; i < count; i++) {
      const place = pages[Math.floor((past + i) / size)];
      if (place === undefined) throw new RangeError(`position ${past + i} has no page`);
      this.#rows[2 * (first + i)] = place * size + ((past + i) % size);
    }
  }
}

/** An area of main memory as words. */
export function intsOf({ hosts }: InputAreas, index: number): Int32Array {
  const host = hosts[index];
  if (host === undefined) throw new RangeError(`input area ${index} does not exist`);
  return new Int32Array(host.buffer, host.byteOffset, host.byteLength / 4);
}

/** Writes whole numbers from 0 to 2^31 - 1 as numbers of 64 bits, whose high words are zero. */
export function writeLongs(words: Int32Array, values: readonly number[]): void {
  for (let i = 0; i < values.length; i++) words[2 * i] = values[i] ?? 0;
}

/** Indices of areas. The numbers of keys graphs follow those of the units. */
export interface AreaPlan {
  /** Bytes of all areas. */
  readonly sizes: readonly number[];
  /** First area of the control of a number. */
  readonly control: (number: number) => number;
  /** Area of the positions of a keys graph, i64. @param place among the keys graphs */
  readonly positions: (place: number) => number;
}

export function hasKeys({ keys }: Pick<ModelUnit, 'keys'>): boolean {
  return keys !== undefined;
}

/** @param before bytes of the areas in front @param most sizes of the largest batch */
export function planAreas(before: readonly number[], units: readonly ModelUnit[], most: BatchShape): AreaPlan {
  const keys = units.filter(hasKeys);
  const control = (number: number): number => before.length + number * CONTROL_AREAS;
  return {
    sizes: [...before, ...[...units, ...keys].flatMap(() => controlSizes(most)), ...keys.map(() => most.tokens * 8)],
    control,
    positions: (place) => control(units.length + keys.length) + place,
  };
}

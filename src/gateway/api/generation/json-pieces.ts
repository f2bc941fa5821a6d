/** JSON of large values in pieces: neither the text nor the objects of a long list are whole in memory. */

/** UTF-16 units of a piece: about a millisecond of work. */
const PIECE_UNITS = 65_536;

/** A list whose entries are made while they are written. */
export class LazyList<T> implements Iterable<T> {
  constructor(private readonly make: () => Iterable<T>) {}

  /** The list of these items, mapped. */
  static of<Item, T>(items: readonly Item[], map: (item: Item) => T): LazyList<T> {
    return new LazyList(function* () {
      for (const item of items) yield map(item);
    });
  }

  [Symbol.iterator](): Iterator<T> {
    return this.make()[Symbol.iterator]();
  }

  toJSON(): T[] {
    return [...this];
  }
}

/** The text of `JSON.stringify(value)` in pieces of at least 65,536 UTF-16 units, except for the last one. */
export function* jsonPieces(value: object): Generator<string, void, undefined> {
  let piece = '';
  for (const part of partsOf(value)) {
    piece += part;
    if (piece.length < PIECE_UNITS) continue;
    yield piece;
    piece = '';
  }
  if (piece !== '') yield piece;
}

/** Functions and `undefined` have no JSON. */
const stringify: (value: unknown) => string | undefined = JSON.stringify;

/** Levels of lists and objects that are taken apart. Deeper values are small. */
const LEVELS = 6;

function* partsOf(value: unknown, levels = LEVELS): Generator<string, void, undefined> {
  if (value instanceof LazyList || (Array.isArray(value) && levels > 0)) {
    let before = '[';
    for (const item of value as Iterable<unknown>) {
      yield before;
      yield* partsOf(item ?? null, levels - 1);
      before = ',';
    }
    yield before === '[' ? '[]' : ']';
    return;
  }
  if (levels === 0 || typeof value !== 'object' || value === null || 'toJSON' in value) {
    yield stringify(value) ?? 'null';
    return;
  }
  let before = '{';
  for (const [key, field] of Object.entries(value)) {
    if (field === undefined) continue;
    yield `${before}${JSON.stringify(key)}:`;
    yield* partsOf(field, levels - 1);
    before = ',';
  }
  yield before === '{' ? '{}' : '}';
}

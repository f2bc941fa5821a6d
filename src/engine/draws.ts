/** A seedable stream of uniform numbers (sfc32, Chris Doty-Humphrey's PractRand): same seed, same stream, anywhere. */
import { randomInt } from 'node:crypto';

/** A stream that allows looking ahead. */
export class Draws {
  readonly #stream: () => number;
  readonly #ahead: number[] = [];

  /** @param seed see randomStream */
  constructor(seed: number | null) {
    this.#stream = randomStream(seed);
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.#ahead.shift() ?? this.#stream();
  }

  /** The result of `next` after `skip` other calls. */
  peek(skip: number): number {
    while (this.#ahead.length <= skip) this.#ahead.push(this.#stream());
    return this.#ahead[skip] ?? NaN;
  }
}

/** @param seed any safe integer, or null for an unpredictable stream */
export function randomStream(seed: number | null): () => number {
  const start = seed ?? randomInt(2 ** 47);
  let a = start | 0;
  let b = Math.floor(start / 2 ** 32) | 0;
  let c = 0x9e3779b9 | 0;
  let counter = 1;
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    c |= 0;
    return (sum >>> 0) / 2 ** 32;
  };
  // The first outputs of neighbouring seeds are similar.
  for (let round = 0; round < 12; round++) next();
  return next;
}

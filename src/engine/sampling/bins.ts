/** The token ids of a row in bins of nearly equal logits. Finding a place in the order of a row needs no sort then. */

/** Bits for a token id below its logit's sort key, so that both fit one exact number. */
const ID_BITS = 20;
/** A bin holds the logits with equal upper 16 bits of their keys. */
const BINS = 2 ** 16;

/** Maps the bits of a float to an unsigned 32-bit key that falls while the float rises. */
function falling(bits: number): number {
  return bits >= 2 ** 31 ? bits : 2 ** 31 - 1 - bits;
}

const EXCLUDED = falling(new Uint32Array(new Float32Array([-Infinity]).buffer)[0] ?? NaN) >>> 16;

/** The bins of the row that was filled last. Bin 0 would hold the largest logits. */
export class Bins {
  /** Ids by bin, ascending in each. */
  #ids = new Uint32Array(0);
  #binOf = new Uint16Array(0);
  #bits: Uint32Array = new Uint32Array(0);
  /** Where each bin ends in `#ids`, behind a leading 0. */
  readonly #ends = new Uint32Array(BINS + 1);

  /** @returns number of possible tokens: those above -Infinity */
  fill(logits: Float32Array): number {
    const count = logits.length;
    if (this.#ids.length < count) {
      this.#ids = new Uint32Array(count);
      this.#binOf = new Uint16Array(count);
    }
    const bits = new Uint32Array(logits.buffer, logits.byteOffset, count);
    const ids = this.#ids;
    const binOf = this.#binOf;
    const ends = this.#ends.fill(0);
    for (let id = 0; id < count; id++) {
      const bin = falling(bits[id] ?? 0) >>> 16;
      binOf[id] = bin;
      ends[bin + 1] = (ends[bin + 1] ?? 0) + 1;
    }
    // Each entry becomes the begin of its bin, and its end once all ids have their places.
    let begin = 0;
    for (let bin = 0; bin < BINS; bin++) {
      const size = ends[bin + 1] ?? 0;
      ends[bin + 1] = begin;
      begin += size;
    }
    for (let id = 0; id < count; id++) {
      const entry = (binOf[id] ?? 0) + 1;
      const place = ends[entry] ?? 0;
      ids[place] = id;
      ends[entry] = place + 1;
    }
    this.#bits = bits;
    return ends[EXCLUDED] ?? 0;
  }

  /** Bins that hold possible tokens, largest logits first. */
  *filled(): Generator<Uint32Array> {
    for (let bin = 0; bin < EXCLUDED; bin++) {
      const begin = this.#ends[bin] ?? 0;
      const end = this.#ends[bin + 1] ?? 0;
      if (end > begin) yield this.#ids.subarray(begin, end);
    }
  }

  /**
   * Sorts ids by their logits, descending; of equal logits, the lower id first. Logit and id form one number, because
   * native sorting of numbers is several times faster than sorting with a comparison function.
   */
  sorted(ids: ArrayLike<number>): number[] {
    const keys = Float64Array.from(ids, (id) => falling(this.#bits[id] ?? 0) * 2 ** ID_BITS + id);
    return Array.from(keys.sort(), (key) => key % 2 ** ID_BITS);
  }
}

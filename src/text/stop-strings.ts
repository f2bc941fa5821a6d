/** Finds stop strings in a growing text, and holds back an end that may become one. */
export interface StopScan {
  /** Text that may be sent. */
  readonly text: string;
  /** The stop string that was found, or null. Text after a stop string is never sent. */
  readonly stop: string | null;
}

/**
 * The longest prefix of a stop string that a growing text ends with, by Knuth, Morris and Pratt. Each character is read
 * once. A comparison of every end took minutes for a long stop string and a repetitive text.
 */
class Beginning {
  /** Length of the longest prefix that the text ends with. */
  length = 0;
  /** By length of a prefix, the length of its longest proper border; filled as far as a text has matched. */
  readonly #shorter = [0, 0];

  constructor(readonly stop: string) {}

  /** @returns the offset in `text` at which the stop string first ends, or null */
  push(text: string): number | null {
    for (let at = 0; at < text.length; at++) {
      const unit = text.charCodeAt(at);
      const length = this.#next(this.length, unit);
      this.#shorter[length] ??= this.#next(this.#shorter[length - 1] ?? 0, unit);
      this.length = length;
      if (length === this.stop.length) return at + 1;
    }
    return null;
  }

  #next(length: number, unit: number): number {
    let next = length;
    while (next > 0 && this.stop.charCodeAt(next) !== unit) next = this.#shorter[next] ?? 0;
    return this.stop.charCodeAt(next) === unit ? next + 1 : 0;
  }
}

export class StopStrings {
  #held = '';
  readonly #beginnings: readonly Beginning[];

  constructor(stops: readonly string[]) {
    this.#beginnings = stops.map((stop) => new Beginning(stop));
  }

  push(text: string): StopScan {
    const before = this.#held.length;
    const whole = this.#held + text;
    let at = -1;
    let found: string | null = null;
    for (const beginning of this.#beginnings) {
      const end = beginning.push(text);
      if (end === null) continue;
      const index = before + end - beginning.stop.length;
      if (found === null || index < at) [at, found] = [index, beginning.stop];
    }
    if (found !== null) {
      this.end();
      return { text: whole.slice(0, at), stop: found };
    }
    const held = this.#beginnings.reduce((most, { length }) => Math.max(most, length), 0);
    this.#held = whole.slice(whole.length - held);
    return { text: whole.slice(0, whole.length - held), stop: null };
  }

  /** @returns the text that was held back, for an answer that ends without a stop string */
  end(): string {
    const held = this.#held;
    this.#held = '';
    for (const beginning of this.#beginnings) beginning.length = 0;
    return held;
  }
}

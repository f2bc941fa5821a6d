/**
 * Finds stop strings in a text that grows, and holds back what may yet become one.
 *
 * Knows: text. Must not know: tokens, requests.
 */
export interface StopScan {
  /** Text that is safe to show now. */
  readonly text: string;
  /** The stop string that was found: nothing after `text` may be shown. Null while none was. */
  readonly stop: string | null;
}

/**
 * How far the end of a growing text is the beginning of a stop string. By Knuth, Morris and Pratt: each character is read
 * once, where to compare every end anew took minutes for a long stop string and a text that repeats itself.
 */
class Beginning {
  /** Length of the longest beginning that the text ends with. */
  length = 0;
  /** By length of a beginning, that of the next shorter one that it ends with; as far as any text has got. */
  readonly #shorter = [0, 0];

  constructor(readonly stop: string) {}

  /** @returns where in the text the stop string first ends, or null */
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

  /** @returns what was held back, when the answer ends otherwise. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    for (const beginning of this.#beginnings) beginning.length = 0;
    return held;
  }
}

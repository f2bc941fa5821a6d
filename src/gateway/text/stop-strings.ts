/** Finds stop strings in a growing text, and holds back an end that may become one. */

/** Most stop strings of a request, and most characters of one: each new text is compared with all of them. */
export const MOST_STOPS = 64;
export const LONGEST_STOP = 256;

export interface StopScan {
  /** Text that may be sent. */
  readonly text: string;
  /** The stop string that was found, or null. Text after a stop string is never sent. */
  readonly stop: string | null;
}

export class StopStrings {
  #held = '';
  /** Most UTF-16 units that may begin a stop string without its end. */
  readonly #mostHeld: number;

  /** @param stops not empty strings */
  constructor(private readonly stops: readonly string[]) {
    this.#mostHeld = Math.max(0, ...stops.map(({ length }) => length - 1));
  }

  /** If the text holds several stop strings, the one that starts first counts, of two at one place the shorter one. */
  push(text: string): StopScan {
    const whole = this.#held + text;
    const found = this.stops
      .map((stop) => ({ stop, at: whole.indexOf(stop) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at || a.stop.length - b.stop.length)[0];
    if (found !== undefined) {
      this.#held = '';
      return { text: whole.slice(0, found.at), stop: found.stop };
    }
    let start = Math.max(0, whole.length - this.#mostHeld);
    while (start < whole.length && !this.#mayBegin(whole.slice(start))) start++;
    this.#held = whole.slice(start);
    return { text: whole.slice(0, start), stop: null };
  }

  /** @returns the text that was held back, for an answer that ends without a stop string */
  end(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  #mayBegin(end: string): boolean {
    return this.stops.some((stop) => stop.startsWith(end));
  }
}

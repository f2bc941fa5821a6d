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

/** Length of the longest end of `text` that is a proper beginning of `stop`. */
function heldBy(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(-length))) return length;
  }
  return 0;
}

export class StopStrings {
  #held = '';

  constructor(private readonly stops: readonly string[]) {}

  push(text: string): StopScan {
    if (this.stops.length === 0) return { text, stop: null };
    const whole = this.#held + text;
    let at = -1;
    let found: string | null = null;
    for (const stop of this.stops) {
      const index = whole.indexOf(stop);
      if (index >= 0 && (at < 0 || index < at)) [at, found] = [index, stop];
    }
    if (found !== null) {
      this.#held = '';
      return { text: whole.slice(0, at), stop: found };
    }
    const held = this.stops.reduce((most, stop) => Math.max(most, heldBy(whole, stop)), 0);
    this.#held = whole.slice(whole.length - held);
    return { text: whole.slice(0, whole.length - held), stop: null };
  }

  /** @returns what was held back, when the answer ends otherwise. */
  end(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}

/** Turns token ids into text one at a time, in whole UTF-8 characters. */
export class Detokenizer {
  /** Keeps the bytes of an incomplete character; invalid bytes become U+FFFD. */
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(private readonly bytesOf: (id: number) => Uint8Array) {}

  /** @returns the text that the token completes; empty while a character is incomplete */
  push(id: number): string {
    return this.#decoder.decode(this.bytesOf(id), { stream: true });
  }

  /** @returns the remaining text at the end: U+FFFD for an incomplete character */
  end(): string {
    return this.#decoder.decode();
  }
}

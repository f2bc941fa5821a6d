/**
 * Token ids to text, one at a time, never splitting a UTF-8 character.
 *
 * Knows: bytes of tokens. Must not know: stop strings (stop-strings.ts), requests.
 */
export class Detokenizer {
  /** Holds back the bytes of an unfinished character; what can't be one becomes U+FFFD. */
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(private readonly bytesOf: (id: number) => Uint8Array) {}

  /** @returns the text that the token completes; empty while a character is unfinished. */
  push(id: number): string {
    return this.#decoder.decode(this.bytesOf(id), { stream: true });
  }

  /** @returns what is left at the end: U+FFFD for an unfinished character. */
  end(): string {
    return this.#decoder.decode();
  }
}

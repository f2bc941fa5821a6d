/**
 * Cuts a long text where a byte-level tokenizer cuts it anyway, so that it can be encoded piece by piece.
 *
 * Knows: GPT-2's pre-tokenization: a space begins a word, and punctuation ends before a letter. Must not know: ids.
 */

/** UTF-16 units per piece: about 5 ms of encoding, well below what streams of other callers notice. */
const PIECE = 2048;

/** A place between two pre-tokens: before a single space and a word, or between a full stop and a letter. */
const BOUNDARY = /(?<=\S)(?= \S)|(?<=[.,!?;:\u3001\u3002\uff0c\uff01\uff1f])(?=\p{L})/gu;

/** Yields pieces that together are the text; a piece is longer than PIECE only where there is no boundary. */
export function* textPieces(text: string): Generator<string> {
  let start = 0;
  while (text.length - start > PIECE) {
    BOUNDARY.lastIndex = start + PIECE;
    const end = BOUNDARY.exec(text)?.index ?? text.length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}

/**
 * Cuts a long text where a byte-level tokenizer cuts it anyway, so that it can be encoded piece by piece.
 *
 * Knows: how pre-tokenizers split: a space begins a word; in GPT-2's, punctuation ends before a letter. Must not know:
 * ids.
 */
import type { PreTokenizerJson, TokenizerJson } from './token-bytes.js';

/** UTF-16 units per piece: about 5 ms of encoding, well below what streams of other callers notice. */
const PIECE = 2048;

/**
 * A piece of more is not for the event loop: at this length it takes 16 to 46 ms of a core. What people write stays far
 * below, minified libraries too (1,700; 3,700 where stops don't cut).
 */
export const LONG_PIECE = 4 * PIECE;

/** A place before a single space and a word: no pre-token holds a space but at its beginning. */
const SPACES = /(?<=\S)(?= \S)/gu;

/** GPT-2's have one between a full stop and a letter, too; Llama 3's join a letter to one character before it. */
const SPACES_AND_STOPS = /(?<=\S)(?= \S)|(?<=[.,!?;:\u3001\u3002\uff0c\uff01\uff1f])(?=\p{L})/gu;

/** @returns where texts may be cut for this byte-level tokenizer, or null where they may not */
export function boundaryOf({ pre_tokenizer: root = null, added_tokens: added = [] }: TokenizerJson): RegExp | null {
  const steps = stepsOf(root);
  // Without a split a text is one word. A token that holds or swallows spaces has them cut off.
  const isSplit = steps.some((step) => step.type === 'Split' || isGpt2(step));
  const isSpaced = added.some(
    ({ content, lstrip, rstrip }) => /\s/.test(content) || lstrip === true || rstrip === true,
  );
  if (!isSplit || isSpaced) return null;
  const isCut = added.some(({ content }) => content.search(SPACES_AND_STOPS) >= 0);
  // A space that is put before each text would be put before each piece that has none.
  const isPlain = steps.every((step) => step.type === 'Digits' || (isGpt2(step) && step.add_prefix_space !== true));
  return isPlain && !isCut ? SPACES_AND_STOPS : SPACES;
}

function stepsOf(step: PreTokenizerJson | null): readonly PreTokenizerJson[] {
  if (step === null) return [];
  return step.type === 'Sequence' ? (step.pretokenizers ?? []).flatMap(stepsOf) : [step];
}

function isGpt2({ type, use_regex: regex }: PreTokenizerJson): boolean {
  return type === 'ByteLevel' && regex !== false;
}

/**
 * Yields pieces that together are the text; a piece is longer than PIECE only where there is no boundary.
 * @param boundary of `boundaryOf`
 */
export function* textPieces(text: string, boundary: RegExp): Generator<string> {
  let start = 0;
  while (text.length - start > PIECE) {
    boundary.lastIndex = start + PIECE;
    const end = boundary.exec(text)?.index ?? text.length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}

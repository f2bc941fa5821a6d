/**
 * Cuts a long text at boundaries of a byte-level tokenizer, so that pieces can be encoded one by one. A space begins a
 * word in every such pre-tokenizer; in GPT-2's, punctuation also ends before a letter.
 */
import type { PreTokenizerJson, TokenizerJson } from './token-bytes.js';

/** UTF-16 units per piece: about 5 ms of encoding, short for the other streams of the event loop. */
const PIECE_UNITS = 2048;

/**
 * Longest piece for the event loop, in UTF-16 units: at this length a piece takes 16 to 46 ms of a core. Longest pieces
 * of ordinary texts, minified libraries included, have 1,700 units, or 3,700 if punctuation is not a boundary.
 */
export const LONG_PIECE_UNITS = 4 * PIECE_UNITS;

/** Boundaries before a single space and a word: a pre-token holds a space only at its beginning. */
const SPACES = /(?<=\S)(?= \S)/gu;

/** GPT-2 also has a boundary between punctuation and a letter; Llama 3 joins a letter to one character before it. */
const SPACES_AND_STOPS = /(?<=\S)(?= \S)|(?<=[.,!?;:\u3001\u3002\uff0c\uff01\uff1f])(?=\p{L})/gu;

/** @returns the boundaries at which this byte-level tokenizer allows cuts, or null if it allows none */
export function boundaryOf({ pre_tokenizer: root = null, added_tokens: added = [] }: TokenizerJson): RegExp | null {
  const steps = stepsOf(root);
  // Without a split, a text is one word. A token that contains or strips spaces would be cut apart.
  const isSplit = steps.some((step) => step.type === 'Split' || isGpt2(step));
  const isSpaced = added.some(
    ({ content, lstrip, rstrip }) => /\s/.test(content) || lstrip === true || rstrip === true,
  );
  if (!isSplit || isSpaced) return null;
  const isCut = added.some(({ content }) => content.search(SPACES_AND_STOPS) >= 0);
  // A tokenizer that prepends a space to a text would prepend one to each piece without a space.
  const isPlain = steps.every((step) => isDigits(step) || (isGpt2(step) && step.add_prefix_space !== true));
  return isPlain && !isCut ? SPACES_AND_STOPS : SPACES;
}

function stepsOf(step: PreTokenizerJson | null): readonly PreTokenizerJson[] {
  if (step === null) return [];
  return step.type === 'Sequence' ? (step.pretokenizers ?? []).flatMap(stepsOf) : [step];
}

/** A step that isolates digits only adds boundaries. */
function isDigits({ type, pattern }: PreTokenizerJson): boolean {
  return type === 'Digits' || (type === 'Split' && pattern?.Regex === '\\p{N}');
}

function isGpt2({ type, use_regex: regex }: PreTokenizerJson): boolean {
  return type === 'ByteLevel' && regex !== false;
}

/**
 * Yields pieces that together are the text. A piece is longer than PIECE_UNITS only if it has no boundary.
 * @param boundary result of `boundaryOf`
 */
export function* textPieces(text: string, boundary: RegExp): Generator<string> {
  let start = 0;
  while (text.length - start > PIECE_UNITS) {
    boundary.lastIndex = start + PIECE_UNITS;
    const end = boundary.exec(text)?.index ?? text.length;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}

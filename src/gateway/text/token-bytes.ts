/**
 * The bytes of each token id, for byte-level BPE (GPT-2, Llama 3, SmolLM), and for SentencePiece vocabularies with byte
 * fallback (Llama 2) or scored pieces (Unigram).
 */

/** The parts of tokenizer.json for decoding and for cutting texts. */
export interface TokenizerJson {
  readonly model: { readonly type?: string; readonly vocab: VocabularyJson };
  readonly decoder: DecoderJson | null;
  readonly added_tokens?: readonly AddedTokenJson[];
  readonly pre_tokenizer?: PreTokenizerJson | null;
  readonly normalizer?: NormalizerJson | null;
}

interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  /** Whether the token strips the spaces before and after it. */
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

export interface PreTokenizerJson {
  readonly type: string;
  /** Steps of a Sequence. */
  readonly pretokenizers?: readonly PreTokenizerJson[];
  /** For Split. */
  readonly pattern?: { readonly Regex?: string };
  /** For ByteLevel: whether it splits as GPT-2 does, and whether it prepends a space to a text. */
  readonly use_regex?: boolean;
  readonly add_prefix_space?: boolean;
}

export interface NormalizerJson {
  readonly type: string;
  /** Steps of a Sequence. */
  readonly normalizers?: readonly NormalizerJson[];
  /** For Replace. */
  readonly pattern?: { readonly String?: string };
  readonly content?: string;
  /** For Prepend. */
  readonly prepend?: string;
}

/** Ids by token. Unigram has [token, score] pairs in the order of their ids. */
export type VocabularyJson = Readonly<Record<string, number>> | readonly (readonly [string, number])[];

interface DecoderJson {
  readonly type: string;
  /** For Metaspace. */
  readonly prepend_scheme?: string;
  readonly decoders?: readonly DecoderJson[];
}

/** GPT-2's reversible map: printable Latin-1 characters map to themselves, the other bytes to U+0100 and up. */
export function byteOfCharacter(): Map<string, number> {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  const map = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCodePoint(printable(byte) ? byte : next++), byte);
  return map;
}

const utf8 = new TextEncoder();

function byteLevel(token: string, map: ReadonlyMap<string, number>): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = map.get(character);
    if (byte === undefined) return utf8.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function byteFallback(token: string): Uint8Array {
  const hex = /^<0x([0-9A-F]{2})>$/i.exec(token)?.[1];
  return hex === undefined ? utf8.encode(token.replaceAll('\u2581', ' ')) : Uint8Array.of(parseInt(hex, 16));
}

/** [token, id] of every token of the vocabulary. Added tokens are separate, but may be listed here as well. */
export function vocabularyEntries(vocab: VocabularyJson): (readonly [string, number])[] {
  return isScored(vocab) ? vocab.map(([token], id) => [token, id] as const) : Object.entries(vocab);
}

function isScored(vocab: VocabularyJson): vocab is readonly (readonly [string, number])[] {
  return Array.isArray(vocab);
}

/** Whether decoding drops the space that the pre-tokenizer prepends to a text. */
function stripsSpace(decoder: DecoderJson | null): boolean {
  if (decoder === null) return false;
  const { type, prepend_scheme: scheme, decoders = [] } = decoder;
  return type === 'Strip' || (type === 'Metaspace' && scheme !== 'never') || decoders.some(stripsSpace);
}

function decoderTypes(decoder: DecoderJson | null): string[] {
  return decoder === null ? [] : [decoder.type, ...(decoder.decoders ?? []).flatMap(decoderTypes)];
}

export interface TokenBytes {
  readonly byteLevel: boolean;
  /** By id; undefined for an id without a token. */
  readonly bytes: readonly (Uint8Array | undefined)[];
  /** Ids that are never part of the text (end of text, role marks). */
  readonly special: ReadonlySet<number>;
  /** Whether decoding drops one space at the start of a text (Llama 2 prepends one). */
  readonly stripsLeadingSpace: boolean;
}

/** Above the vocabularies of all known models. A table by id must not grow to what a file names. */
const MOST_IDS = 2 ** 24;

function checkId(id: number): void {
  if (!Number.isInteger(id) || id < 0 || id >= MOST_IDS)
    throw new Error(`the id of a token must be an integer from 0 to ${MOST_IDS - 1}, got ${id}`);
}

/** @throws Error for an id that no vocabulary has */
export function tokenBytes(json: TokenizerJson): TokenBytes {
  const types = decoderTypes(json.decoder);
  const isByteLevel = types.includes('ByteLevel');
  const map = byteOfCharacter();
  const bytes: (Uint8Array | undefined)[] = [];
  for (const [token, id] of vocabularyEntries(json.model.vocab)) {
    checkId(id);
    bytes[id] = isByteLevel ? byteLevel(token, map) : byteFallback(token);
  }
  const special = new Set<number>();
  for (const added of json.added_tokens ?? []) {
    checkId(added.id);
    bytes[added.id] = utf8.encode(added.content);
    if (added.special) special.add(added.id);
  }
  return { byteLevel: isByteLevel, bytes, special, stripsLeadingSpace: !isByteLevel && stripsSpace(json.decoder) };
}

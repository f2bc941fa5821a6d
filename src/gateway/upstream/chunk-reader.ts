/**
 * Reads the chunks of one stream. Most differ in one text alone, their content or a thought: its place is learnt from
 * two chunks, and found by a search in later ones.
 *
 * Must not know: time, connections.
 */
import type { Delta } from '../api/generation/choice.js';
import { type Chunk, isPresent, readChunk } from './chunk.js';
import { stringEnd, without, withTexts } from './json-fields.js';

/** The begin of a text that may be all that differs. */
const TEXT = /"(?:content|text|reasoning_content)"\s*:\s*"(?!")/;
/** A text that stands for itself in JSON. */
const PLAIN = /^[^"\\\u0000-\u001f]+$/;
/** Stands in place of the text. */
const MARK = 'text of a chunk';

/** The parts of a chunk around its text, as they come and as they go out. */
interface Shape {
  readonly head: string;
  readonly tail: string;
  readonly headHere: string;
  readonly tailHere: string;
  /** The chunk whose text is the mark, without its choices. */
  readonly chunk: Chunk;
  readonly piece: Delta;
  readonly field: 'text' | 'thoughts';
}

/** A chunk, and its data as it goes out. One of a known form has no choices in its JSON. */
export interface NamedChunk extends Chunk {
  readonly data: string;
}

/** The text that JSON has between two quotes; null for one that is empty or wrong. */
function unquoted(raw: string): string | null {
  if (PLAIN.test(raw)) return raw;
  try {
    const text: unknown = JSON.parse(`"${raw}"`);
    return typeof text === 'string' && text !== '' ? text : null;
  } catch {
    return null;
  }
}

/** Null: chunks of this form have more than a text, or the text at another place. */
function shapeOf(head: string, tail: string, names: Readonly<Record<string, string>>): Shape | null {
  const [headHere = '', tailHere, ...more] = withTexts(head + MARK + tail, names).split(MARK);
  const chunk = readChunk(head + MARK + tail);
  const [piece, ...others] = chunk.pieces;
  if (piece === undefined || !('text' in piece) || tailHere === undefined || others.length + more.length > 0)
    return null;
  const { text, thoughts, ...rest } = piece;
  const field = text === MARK ? 'text' : 'thoughts';
  if (text + thoughts !== MARK || JSON.stringify(rest).includes(MARK) || isPresent(chunk.json.usage)) return null;
  const json = without(chunk.json, 'choices');
  return { head, tail, headHere, tailHere, chunk: { ...chunk, json }, piece, field };
}

export class ChunkReader {
  #shape: Shape | null = null;
  /** The parts around the text of the last chunk that was read whole. */
  #head = '';
  #tail = '';

  /**
   * @param names new texts of fields at the top
   * @param hide takes the key of the upstream out of a text
   */
  constructor(
    private readonly names: Readonly<Record<string, string>>,
    private readonly hide?: (text: string) => string,
  ) {}

  /** @throws ApiError as `readChunk` */
  read(data: string): NamedChunk {
    const found = this.#textIn(data);
    if (found === null) {
      const chunk = readChunk(data, this.hide);
      this.#learn(data);
      return { ...chunk, data: withTexts(data, this.names) };
    }
    const { shape, raw, text } = found;
    const { chunk, piece, field, headHere, tailHere } = shape;
    const bytes = chunk.bytes - MARK.length + raw.length;
    return {
      ...chunk,
      data: headHere + raw + tailHere,
      pieces: [{ ...piece, [field]: text, bytes }],
      text: field === 'text' ? text : '',
      characters: chunk.characters - MARK.length + text.length,
      bytes,
    };
  }

  /** Learns the form of a chunk that was read whole: two chunks of one form make it known. */
  #learn(data: string): void {
    const found = TEXT.exec(data);
    if (found === null) return;
    const start = found.index + found[0].length;
    const head = data.slice(0, start);
    const tail = data.slice(stringEnd(data, start - 1) - 1);
    if (head === this.#head && tail === this.#tail) this.#shape = shapeOf(head, tail, this.names);
    this.#head = head;
    this.#tail = tail;
  }

  #textIn(data: string) {
    const shape = this.#shape;
    if (shape === null || !data.startsWith(shape.head) || !data.endsWith(shape.tail)) return null;
    const raw = data.slice(shape.head.length, data.length - shape.tail.length);
    const text = unquoted(raw);
    return text === null ? null : { shape, raw, text };
  }
}

/** Counts what a JSON holds ahead of its parsing: a value takes up to a hundred bytes of memory, and two of text. */

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

export interface JsonSize {
  /** Most objects and lists within each other. */
  readonly levels: number;
  /** Objects and lists. */
  readonly containers: number;
  readonly commas: number;
}

/** The size of a text, which need not be JSON. */
export function jsonSize(text: string): JsonSize {
  let level = 0;
  let levels = 0;
  let containers = 0;
  let commas = 0;
  let isText = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) isText = !isText;
    else if (isText) at += code === BACKSLASH ? 1 : 0;
    else if (code === COMMA) commas++;
    else if (code === CLOSE_LIST || code === CLOSE_OBJECT) level--;
    else if (code === OPEN_LIST || code === OPEN_OBJECT) {
      containers++;
      levels = Math.max(levels, ++level);
    }
  }
  return { levels, containers, commas };
}

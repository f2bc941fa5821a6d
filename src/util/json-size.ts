/** Bounds JSON before it is parsed: a value takes up to a hundred bytes of memory, and two bytes of text. */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Each begins a value, or follows one: a comma, brackets. */
const MARKS = new Set([0x2c, 0x5b, 0x7b]);

/** Whether a text of JSON may hold more values than that. The scan stops there. */
export function mayHoldMoreValues(text: string, most: number): boolean {
  let values = 1;
  let isText = false;
  for (let at = 0; at < text.length && values <= most; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) isText = !isText;
    else if (isText) {
      if (code === BACKSLASH) at++;
    } else if (MARKS.has(code)) values++;
  }
  return values > most;
}

/** The last place at which a text may end. Must not know: tokens, budgets. */
import { continuesSentence } from './characters.js';
import { SentenceScanner } from './sentence-scanner.js';

/** Characters that show whether a sentence goes on. */
const SHOWN = 16;
/** Header, rule and one row: a table with fewer lines holds nothing. */
const LEAST_TABLE_LINES = 3;

/**
 * Length of a text up to its last whole sentence, list item, table row or closed fence, in UTF-16 units; 0 for none. A
 * mark behind a last digit may be that of a decimal, and ends nothing.
 */
export function lastSentenceEnd(text: string): number {
  const scanner = new SentenceScanner();
  const encoder = new TextEncoder();
  let at = 0;
  let end = 0;
  let lineAt = 0;
  let tableLines = 0;
  for (const character of text) {
    at += character.length;
    scanner.read(encoder.encode(character));
    const isNewline = character === '\n';
    if (isNewline) {
      const line = text.slice(lineAt, at).trimStart();
      tableLines = line.startsWith('|') ? tableLines + 1 : 0;
      lineAt = at;
    }
    if (scanner.mayEnd === 'no' || (tableLines > 0 && tableLines < LEAST_TABLE_LINES)) continue;
    // Inside of a list, a quotation or brackets, only a whole line is an item.
    if (scanner.mayEnd === 'line_break' && !isNewline && text[at] !== '\n') continue;
    const rest = text.slice(at, at + SHOWN);
    const isDecimal = rest === '' && /\d\p{P}$/u.test(text);
    if (!scanner.isAmbiguous || !(isDecimal || continuesSentence(rest))) end = at;
  }
  return text.slice(0, end).trimEnd().length;
}

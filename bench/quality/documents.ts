/**
 * Held-out conversations as token ids, built as in training/sorted_tuning/data.py. Rows are {"q": question,
 * "a": answer, "done": whether the model ended it}.
 */
import { readFileSync } from 'node:fs';
import type { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import type { TextTokenizer } from '../../src/gateway/text/tokenizer.js';

export interface Row {
  readonly question: string;
  readonly answer: string;
  /** False if the length limit cut the answer off; the document then has no end of turn. */
  readonly done: boolean;
}

/**
 * Usable rows of a JSONL file in order: the question is not blank, and the answer has at least two characters.
 * @throws Error that names the file and the line
 */
export function readRows(file: string): Row[] {
  const rows: Row[] = [];
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    if (line.trim() === '') continue;
    const row = parseRow(line);
    if (row === null) throw new Error(`${file}:${index + 1} must be an object with texts "q" and "a"`);
    if (row.question.trim() !== '' && row.answer.length > 1) rows.push(row);
  }
  return rows;
}

function parseRow(line: string): Row | null {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    return null;
  }
  const { q, a, done = true } = (json ?? {}) as { q?: unknown; a?: unknown; done?: unknown };
  return typeof q === 'string' && typeof a === 'string' ? { question: q, answer: a, done: Boolean(done) } : null;
}

/** A row as a chat, cut to its first `most` tokens. */
export function documentOf(row: Row, chat: ChatTemplate, tokenizer: TextTokenizer, most: number): number[] {
  const question = { role: 'user', content: row.question };
  const text = row.done
    ? chat.render([question, { role: 'assistant', content: row.answer }], false)
    : chat.render([question], true) + row.answer;
  return tokenizer.encode(text, false).slice(0, most);
}

/** Reads files of questions: a JSON array of {instruction, input}, or text with one question per line. */
import { readFileSync } from 'node:fs';

/** @throws Error that names the file and its fault */
export function readQuestions(file: string): string[] {
  try {
    return parseQuestions(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new Error(`${file}: ${(cause as Error).message}`);
  }
}

/**
 * A question is an instruction, followed by a blank line and its input if it has one. Blank lines and blank
 * instructions are skipped.
 * @throws Error that names an entry without instruction, or if no question is left
 */
export function parseQuestions(text: string): string[] {
  const questions = text.trimStart().startsWith('[') ? fromJson(text) : fromLines(text);
  if (questions.length === 0) throw new Error('the file must hold at least one question');
  return questions;
}

function fromLines(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

function fromJson(text: string): string[] {
  return (JSON.parse(text) as unknown[]).flatMap((entry, index) => {
    const { instruction, input = '' } = (entry ?? {}) as { instruction?: unknown; input?: unknown };
    if (typeof instruction !== 'string' || typeof input !== 'string')
      throw new Error(`entry ${index} must have a text "instruction" and may have a text "input"`);
    if (instruction.trim() === '') return [];
    return input.trim() === '' ? instruction.trim() : `${instruction.trim()}\n\n${input.trim()}`;
  });
}

/**
 * Files of questions: a JSON array of {instruction, input}, or a text with one question a line.
 *
 * Knows: the two formats. Must not know: what the questions are for.
 */
import { readFileSync } from 'node:fs';

/** @throws Error naming the file and what is wrong with it */
export function readQuestions(file: string): string[] {
  try {
    return parseQuestions(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new Error(`${file}: ${(cause as Error).message}`);
  }
}

/**
 * An instruction and its input, where it has one, make one question with a blank line between them. Blank lines and
 * blank instructions are no questions.
 * @throws Error naming the entry that has no instruction, or where there is no question at all
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

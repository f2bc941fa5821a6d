/** Questions of a bench: a small built-in set, or a file (JSON array of {instruction, input}, or one a line). */
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

/** Everyday questions with answers from one word to some paragraphs. */
export const QUESTIONS: readonly string[] = [
  'What is the capital of Italy?',
  'How many continents are there?',
  'Name three colors of the rainbow.',
  'What is the opposite of hot?',
  'Translate "good morning" into Spanish.',
  'Write one sentence about the sea.',
  'What do plants need to grow?',
  'Why do leaves change color in autumn? Answer in two sentences.',
  'Give me three tips for better sleep.',
  'Describe a rainy day in a city.',
  'Explain in a short paragraph how a bicycle stays upright.',
  'What is the difference between weather and climate?',
  'List five animals that live in the forest.',
  'Write a short thank-you note to a teacher.',
  'Summarize the story of Cinderella in three sentences.',
  'What are the advantages of riding a train instead of driving a car?',
  'Write a polite email that asks for a day off.',
  'How do I boil an egg? Give the steps.',
  'Write a four-line poem about winter.',
  'Explain to a child why the moon seems to change its shape.',
  'Suggest a name and a slogan for a small bakery.',
  'What is a healthy breakfast, and why?',
  'Describe how bread is made, from the grain to the loaf.',
  'Write a short story about a lost key.',
];

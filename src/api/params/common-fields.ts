/** The generation fields that have one name and meaning in all protocols. */
import { generationFields, type GenerationBody } from '../schemas/shared.js';

/** Fields of OpenAI's chunked answers, which another protocol does not have or spells differently. */
type Chunked = 'n' | 'stream_options' | 'response_format';
const CHUNKED = new Set<string>(['n', 'stream_options', 'response_format'] satisfies Chunked[]);

/** @returns these fields of a body of any protocol */
export function commonFields(body: Omit<GenerationBody, Chunked>): Omit<GenerationBody, Chunked> {
  return Object.fromEntries(Object.entries(body).filter(([name]) => name in generationFields && !CHUNKED.has(name)));
}

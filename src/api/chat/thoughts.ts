/** How the answers of a chat think: by the template's tags, and the end of the prompt. */
import { endsInThoughts, type ThoughtTags } from '../../text/thoughts.js';
import type { TextTokenizer } from '../../text/tokenizer.js';
import type { AnswerThoughts } from '../generation/choice.js';
import type { TagTokens } from '../params/thoughts.js';

/** A prompt that opens thoughts, with an empty one instead, as templates write it. */
export function withoutThoughts({ open, close }: ThoughtTags, prompt: string): string {
  const text = prompt.trimEnd();
  return text.endsWith(open) ? `${text}\n\n${close}\n\n` : prompt;
}

/**
 * @param prompt the text that the answer follows
 * @param continued the message that the answer continues, or null
 * @returns null if the prompt rules thoughts out
 */
export function answerThoughts(tags: ThoughtTags, prompt: string, continued: string | null): AnswerThoughts | null {
  const end = prompt.trimEnd();
  // A user may write a tag as well, so only the end of a prompt counts, or the message that the answer continues.
  const isOpen = continued === null ? end.endsWith(tags.open) : endsInThoughts(tags, continued);
  if (isOpen) return { tags, isOpen };
  const isOver = continued === null ? end.endsWith(tags.close) : continued.trim() !== '';
  return isOver ? null : { tags, isOpen };
}

/** The tags as tokens; null unless each of them is one token. */
export function thoughtTokens(tags: ThoughtTags, tokenizer: TextTokenizer): TagTokens | null {
  const single = (text: string): number[] => {
    const ids = tokenizer.encode(text, false);
    return ids.length === 1 ? ids : [];
  };
  const [[open], [close]] = [single(tags.open), single(tags.close)];
  if (open === undefined || close === undefined) return null;
  return { open, close, blanks: ['\n', '\n\n'].flatMap(single) };
}

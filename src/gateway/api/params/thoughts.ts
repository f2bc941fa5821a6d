/**
 * How answers think: by the template's tags and the end of the prompt. vLLM's `thinking_token_budget` bounds thoughts.
 */
import type { ThoughtTokens } from '../../../protocol/index.js';
import { endsInThoughts, type ThoughtTags } from '../../text/thoughts.js';
import type { TextTokenizer } from '../../text/tokenizer.js';
import type { AnswerThoughts } from '../generation/choice.js';
import type { PlannedGrammar } from './structured-outputs.js';

/** The tags of thoughts, if each of them is one token. */
export type TagTokens = Pick<ThoughtTokens, 'open' | 'close' | 'blanks'>;

/**
 * The grammar that holds behind the thoughts, and bounds these; null for any text with any thoughts.
 * @param lands whether the budget may end the answer early: its thoughts then end first
 */
export function behindThoughts(
  planned: PlannedGrammar | null,
  thoughts: ThoughtTokens,
  lands: boolean,
): PlannedGrammar | null {
  if (planned !== null) return { ...planned, grammar: { ...planned.grammar, thoughts } };
  if (thoughts.most === null && !lands) return null;
  return { grammar: { kind: 'free', thoughts }, placeOf: () => 'thinking_token_budget' };
}

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
  const [open] = single(tags.open);
  const [close] = single(tags.close);
  if (open === undefined || close === undefined) return null;
  return { open, close, blanks: ['\n', '\n\n'].flatMap(single) };
}

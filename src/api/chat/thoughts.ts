/** How the answers of a chat think: by the template's tags, the end of the prompt, and the grammar of the answers. */
import type { ThoughtTokens } from '../../engine/protocol.js';
import { endsInThoughts, type ThoughtTags } from '../../text/thoughts.js';
import type { TextTokenizer } from '../../text/tokenizer.js';
import { ApiError } from '../errors.js';
import type { AnswerThoughts } from '../generation/choice.js';
import type { PlannedGrammar } from '../params/response-format.js';

type TagTokens = Pick<ThoughtTokens, 'open' | 'close' | 'blanks'>;

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

/** The grammar that holds behind the thoughts, and bounds these; null for any text with any thoughts. */
export function behindThoughts(planned: PlannedGrammar | null, thoughts: ThoughtTokens): PlannedGrammar | null {
  if (planned !== null) return { ...planned, grammar: { ...planned.grammar, thoughts } };
  return thoughts.most === null ? null : { grammar: { kind: 'free', thoughts }, placeOf: () => BOUND };
}

const BOUND = 'thinking_token_budget';

/**
 * The bound of the thoughts, vLLM's `thinking_token_budget`.
 * @param tokens of the model's tags; null if they are not tokens, or the model does not think
 * @throws ApiError unsupported_parameter where nothing can bound the thoughts
 */
export function thoughtBound({ thinking_token_budget: most }: BoundField, tokens: TagTokens | null): number | null {
  if (most === undefined || tokens !== null) return most ?? null;
  const rule = `${BOUND} needs a model that thinks between two tokens`;
  throw new ApiError('unsupported_parameter', `${rule}, and this one does not.`, BOUND);
}

interface BoundField {
  readonly thinking_token_budget?: number;
}

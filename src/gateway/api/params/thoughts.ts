/**
 * How answers think: by the template's tags and the end of the prompt. The bounds of thoughts: vLLM's
 * `thinking_token_budget`, and the exit that thoughts may be limited to.
 */
import type { ThoughtTokens } from '../../../protocol/index.js';
import { endsInThoughts, type ThoughtTags } from '../../text/thoughts.js';
import type { TextTokenizer } from '../../text/tokenizer.js';
import { ApiError, invalid } from '../errors.js';
import type { AnswerThoughts } from '../generation/choice.js';
import type { SortieRequest } from '../schemas/shared.js';
import type { DepthBounds } from './depth.js';
import type { PlannedGrammar } from './structured-outputs.js';

/** The tags of thoughts, if each of them is one token. */
export type TagTokens = Pick<ThoughtTokens, 'open' | 'close' | 'blanks'>;

const TOKENS = 'thinking_token_budget';
const EXIT = 'sortie.thinking_exit_layer';

interface BoundFields {
  readonly thinking_token_budget?: number;
  readonly sortie?: SortieRequest;
}

/**
 * @param tokens of the model's tags; null if they are no tokens, or the model does not think
 * @throws ApiError unsupported_parameter for a bound where nothing can bound the thoughts
 */
export function checkBounds({ thinking_token_budget: most, sortie }: BoundFields, tokens: TagTokens | null): void {
  if (tokens !== null) return;
  const param = most !== undefined ? TOKENS : sortie?.thinking_exit_layer !== undefined ? EXIT : null;
  if (param === null) return;
  const rule = `${param} needs a chat with a model that thinks between two tokens, and this is none.`;
  throw new ApiError('unsupported_parameter', rule, param);
}

/**
 * The deepest exit of the thoughts; null for that of the answer.
 * @param asked by the request; it has to be one of its depths
 * @param usual the operator's, which a deeper bound of the request overrides
 * @throws ApiError invalid_value
 */
export function thoughtsExit(
  asked: number | undefined,
  usual: number | null,
  { minExit, maxExit }: DepthBounds,
  exits: readonly number[],
): number | null {
  const exit = asked ?? Math.max(usual ?? maxExit, minExit);
  if (asked !== undefined && (!exits.includes(asked) || asked < minExit || asked > maxExit)) {
    const own = exits.filter((layer) => layer >= minExit && layer <= maxExit);
    throw invalid(EXIT, `must be an exit that this request may use (${own.join(', ')}), got ${asked}`, { exits: own });
  }
  return exit < maxExit ? exit : null;
}

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
  if (thoughts.most === null && thoughts.exit === undefined && !lands) return null;
  return { grammar: { kind: 'free', thoughts }, placeOf: () => TOKENS };
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

/**
 * `X-Budget-Hint`: the sentences that may stand behind the last message of a chat, if its budget turns out to hold less
 * than the answer. The scheduler makes that choice (engine/scheduler/hint-choice.ts).
 *
 * Must not know: plans, the chat template.
 */
import type { Architecture } from '../../../engine/model/architecture.js';
import type { Hint, Manifest } from '../../../engine/model/manifest.js';
import type { Budget } from '../../../protocol/index.js';
import { asksForm, readsAsEnglish } from '../../text/asked-form.js';
import { statesLength } from '../../text/stated-length.js';
import type { ServedModel } from '../served-model.js';
import { agreed, ASKED, type Headers, headerValues } from '../schemas/headers.js';
import type { SortieRequest } from '../schemas/shared.js';

export type HintMode = 'off' | 'auto';

/** Parameters from which on a model without measured hints follows the usual ones. */
const LARGE = 1e9;

/** The hints of such a model. Most have 1.4 tokens a word. */
const USUAL: readonly Hint[] = [
  { text: ' Answer in one short sentence.', words: 15, tokens: 21 },
  { text: ' Answer in about 40 words.', words: 40, tokens: 56 },
  { text: ' Answer in about 100 words.', words: 100, tokens: 140 },
];

/** Weights of the layers and the embedding, about. */
function parametersOf({ layers, hidden, heads, kvHeads, headDim, ffn, vocab, tiedHead }: Architecture): number {
  const layer = 2 * hidden * headDim * (heads + kvHeads) + 3 * hidden * ffn;
  return layers * layer + (tiedHead ? 1 : 2) * vocab * hidden;
}

/** The hints of a model: its measured ones, else the usual ones if it is large. */
export function hintsOf({ hints, architecture }: Pick<Manifest, 'hints' | 'architecture'>): readonly Hint[] {
  return hints ?? (parametersOf(architecture) >= LARGE ? USUAL : []);
}

/**
 * Whether the request allows hints.
 * @param usual of its key or the server
 * @throws ApiError invalid_value for another value of the header, or for different ones
 */
export function hintMode(headers: Headers, body: SortieRequest | undefined, usual: HintMode): HintMode {
  const values = headerValues(headers, ASKED.budgetHint, 'off or auto', (text) =>
    text === 'off' || text === 'auto' ? text : undefined,
  );
  const stated = agreed(ASKED.budgetHint, values);
  return body?.budget_hint ?? stated ?? usual;
}

/** The part of a chat that decides whether it may have a hint. */
export interface HintedChat {
  readonly mode: HintMode;
  readonly budget: Budget | null;
  readonly n: number;
  /** Whether the answer is plain text: without tools, a grammar or thoughts. */
  readonly isPlain: boolean;
  /** Whether an answer of its own follows the last message, with its own end. */
  readonly isOwnAnswer: boolean;
  /** Texts of the messages with their roles. */
  readonly messages: readonly { readonly role: string; readonly text: string }[];
}

/** Whether a request may have a hint: its caller's own words about length, form and language win. */
export function isHintable(request: string, rules: readonly string[] = []): boolean {
  if ([request, ...rules].some(statesLength)) return false;
  return readsAsEnglish(request) && !asksForm(request);
}

/** The hints that a chat may have; none for most. */
export function hintsFor({ hints = [] }: Pick<ServedModel, 'hints'>, chat: HintedChat): readonly Hint[] {
  const { mode, budget, n, isPlain, isOwnAnswer, messages } = chat;
  const last = messages.at(-1);
  if (mode === 'off' || budget?.totalMs == null || n > 1 || !isPlain || !isOwnAnswer) return [];
  if (last?.role !== 'user' || last.text.trim() === '') return [];
  const rules = messages.filter(({ role }) => role === 'system' || role === 'developer').map(({ text }) => text);
  return isHintable(last.text, rules) ? hints : [];
}

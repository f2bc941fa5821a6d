/**
 * The depth at which a request runs its prompt: all layers, or those up to the model's prompt exit.
 *
 * Must not know: budgets, plans.
 */
import { invalid } from '../errors.js';
import { agreed, ASKED, type Headers, headerValues } from '../schemas/headers.js';
import type { SortieRequest } from '../schemas/shared.js';
import type { ServedModel } from '../served-model.js';
import { quoted } from '../../../util/quoted.js';
import type { Budget, DepthRequest } from '../../../protocol/index.js';
import type { DepthBounds } from './depth.js';

/** Layers that tokens of a prompt run; full: all. */
export type PromptDepth = number | 'full';

/** The same of a request. `auto` leaves it to the plan. */
export type AskedDepth = PromptDepth | 'auto';

/** The depths of prompts that a model offers, the default first. */
export function promptDepths({ promptExit }: Pick<ServedModel, 'promptExit'>): readonly PromptDepth[] {
  if (promptExit === undefined) return ['full'];
  return promptExit.isOnly ? [promptExit.layer] : ['full', promptExit.layer];
}

export interface AskedPromptDepth {
  readonly depth: AskedDepth;
  /** The field or header that states it. */
  readonly param: string;
}

/**
 * @returns null for a request that states no depth of its prompt
 * @throws ApiError invalid_value for a depth that the model does not offer
 */
export function askedPromptDepth(
  model: Pick<ServedModel, 'promptExit'>,
  headers: Headers,
  body: SortieRequest | undefined,
): AskedPromptDepth | null {
  const depths = promptDepths(model);
  const offered: readonly AskedDepth[] = depths.length > 1 ? [...depths, 'auto'] : depths;
  const rule = `a depth of prompts that the model offers (${offered.join(', ')})`;
  const read = (written: string): AskedDepth | undefined => offered.find((depth) => String(depth) === written);
  if (body?.prompt_depth !== undefined) {
    const param = 'sortie.prompt_depth';
    const depth = read(String(body.prompt_depth));
    if (depth === undefined) throw invalid(param, `must be ${rule}, got ${quoted(String(body.prompt_depth))}`);
    return { depth, param };
  }
  const depth = agreed(ASKED.promptDepth, headerValues(headers, ASKED.promptDepth, rule, read));
  return depth === null ? null : { depth, param: ASKED.promptDepth };
}

/** The bounds of a request, and the layers of its prompt where the model offers two depths of prompts. */
export type DepthWithPrompt = DepthBounds & Pick<DepthRequest, 'promptDepth'>;

/**
 * Full depth of the answer behind a prompt exit. A plan chooses for a request with a budget that states no depth and
 * pins no exit of its answer.
 * @throws ApiError invalid_value for a prompt exit of an answer that may not run at full depth
 */
export function withPrompt(
  model: ServedModel,
  bounds: DepthBounds,
  asked: AskedPromptDepth | null,
  budget: Budget | null,
): DepthWithPrompt {
  const { exits, promptExit } = model;
  if (promptExit === undefined || promptExit.isOnly) return bounds;
  const isOpen = budget !== null && bounds.minExit < bounds.maxExit;
  const { depth } = asked ?? { depth: isOpen ? 'auto' : 'full' };
  if (asked === null || depth === 'full' || depth === 'auto')
    return { ...bounds, promptDepth: depth === 'auto' ? depth : null };
  const deepest = exits.at(-1)?.layer ?? bounds.maxExit;
  if (bounds.maxExit < deepest)
    throw invalid(
      asked.param,
      `must be full for an answer that may not run at exit ${deepest} (this one: at most ${bounds.maxExit}), got ${depth}`,
    );
  return { minExit: deepest, maxExit: deepest, promptDepth: promptExit.layer };
}

/** `chat_template_kwargs` and `reasoning_effort`: variables of the chat template, in vLLM's and OpenAI's names. */
import type { ChatTemplate, TemplateVariables } from '../../text/chat-template.js';
import { ApiError } from '../errors.js';

export interface VariableFields {
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>>;
  readonly reasoning_effort?: string;
}

/** Whether a model thinks, by its template. */
export function hasThoughts(template: ChatTemplate): boolean {
  return template.thoughts !== null || template.mentions('reasoning_effort') || template.mentions('enable_thinking');
}

/** @throws ApiError unsupported_parameter for an effort of a model that does not think */
export function templateVariables(template: ChatTemplate | null, fields: VariableFields): TemplateVariables {
  const { chat_template_kwargs: given = {}, reasoning_effort: effort } = fields;
  if (effort === undefined || template === null) return given;
  if (template.mentions('reasoning_effort')) return { reasoning_effort: effort, ...given };
  if (template.mentions('enable_thinking')) return { enable_thinking: effort !== 'none', ...given };
  if (effort === 'none' || hasThoughts(template)) return given;
  const rule = 'reasoning_effort must be "none" or absent: the chat template of this model has no thinking';
  throw new ApiError('unsupported_parameter', `${rule}, got "${effort}".`, 'reasoning_effort');
}

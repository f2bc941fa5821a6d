/** The form of the answer that a body asks for. Must not know: answers, connections. */
import type { OpenBody, UpstreamCall } from './call.js';

export interface AnswerForm {
  /** Whether the answer can end at any sentence: JSON, scored tokens and several choices can't. */
  readonly mayLand: boolean;
  /** Whether a local answer needs its own end: a call, JSON and scored tokens are nothing without it. */
  readonly isWholeOnly: boolean;
}

export function formOf({ request: { body } }: UpstreamCall): AnswerForm {
  const { response_format: format, logprobs, tools, tool_choice: choice } = body;
  const type = typeof format === 'object' && format !== null && 'type' in format ? format.type : 'text';
  const hasScores = logprobs !== undefined && logprobs !== null && logprobs !== false;
  const mayLand = type === 'text' && !hasScores && !isGuided(body) && hasOneChoice(body);
  return { mayLand, isWholeOnly: !mayLand || (isList(tools) && choice !== 'none') };
}

export const hasOneChoice = ({ n = 1 }: OpenBody): boolean => n === 1 || n === null;

export const isList = (value: unknown): boolean => Array.isArray(value) && value.length > 0;

/** Fields of vLLM, SGLang and llama.cpp that state a grammar. */
const GRAMMARS = /^(guided_\w+|structured_outputs|grammar|json_schema|regex|ebnf)$/;

/** Whether a field that few servers know states a grammar. */
export const isGuided = (body: OpenBody): boolean =>
  Object.keys(body).some((field) => GRAMMARS.test(field) && body[field] !== null);

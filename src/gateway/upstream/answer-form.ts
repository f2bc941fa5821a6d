/** The form of the answer that a body asks for. Must not know: answers, connections. */
import type { SortieReport } from '../api/schemas/report.js';
import type { OpenBody, UpstreamCall } from './call.js';

export interface AnswerForm {
  /** Answers to the one prompt. */
  readonly choices: number;
  /** Whether the answer can end at any sentence: JSON, scored tokens and several choices can't. */
  readonly mayLand: boolean;
  /** Whether a local answer goes out at its own end alone: a call, JSON and scored tokens are nothing without it. */
  readonly isWholeOnly: boolean;
  /** Whether this end may be a landing of each choice. */
  readonly isProse: boolean;
}

export function formOf({ request: { body } }: UpstreamCall): AnswerForm {
  const { response_format: format, logprobs, tools, tool_choice: choice } = body;
  const type = typeof format === 'object' && format !== null && 'type' in format ? format.type : 'text';
  const hasScores = logprobs !== undefined && logprobs !== null && logprobs !== false;
  const isText = type === 'text' && !hasScores && !isGuided(body);
  const isProse = isText && !(isList(tools) && choice !== 'none');
  const choices = typeof body.n === 'number' ? Math.max(1, body.n) : 1;
  return { choices, isProse, mayLand: isText && choices === 1, isWholeOnly: !isProse || choices > 1 };
}

/** Whether a local answer of this outcome may go out. */
export const isEnd = (outcome: SortieReport['outcome'], { isWholeOnly, isProse }: AnswerForm): boolean =>
  !isWholeOnly || outcome === 'whole' || (isProse && outcome === 'landed');

export const isList = (value: unknown): boolean => Array.isArray(value) && value.length > 0;

/** Fields of vLLM, SGLang and llama.cpp that state a grammar. */
const GRAMMARS = /^(guided_\w+|structured_outputs|grammar|json_schema|regex|ebnf)$/;

/** Whether a field that few servers know states a grammar. */
export const isGuided = (body: OpenBody): boolean =>
  Object.keys(body).some((field) => GRAMMARS.test(field) && body[field] !== null);

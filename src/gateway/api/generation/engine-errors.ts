/** Maps the engine's rejections and failures to errors for the client. Must not know: HTTP. */
import type { EndedEvent, Grammar, RejectedEvent } from '../../../protocol/index.js';
import type { Outcome } from '../../../protocol/outcome.js';
import { ApiError } from '../errors.js';
import type { PlannedGrammar } from '../params/structured-outputs.js';

/** The outcome in the body of an error, for clients that count outcomes. */
export const REFUSED = { outcome: 'refused' satisfies Outcome };

const grammarsLost = (extra = {}): ApiError =>
  new ApiError('grammars_lost', 'The worker for structured output restarts; try again shortly.', null, extra);

export function queueFull(why = 'Too many requests are waiting'): ApiError {
  return new ApiError('queue_full', `${why}; try again shortly.`, null, REFUSED);
}

/** The answer came to its deadline without output. */
export function emptyAnswer(): ApiError {
  const outcome: Outcome = 'empty';
  const extra = { least_feasible_budget_ms: null, outcome };
  return new ApiError('budget_infeasible', 'The latency budget ended before any text was written.', null, extra);
}

/** The answer came to its deadline in the middle of a form that serves no client unless it is whole. */
export function unfinishedAnswer(outcome: Outcome): ApiError {
  return new ApiError('deadline_exceeded', 'The latency budget ended before the answer was whole.', null, { outcome });
}

/** By kind of grammar: what the client must send. */
const FORMS: Readonly<Record<Grammar['kind'], string>> = {
  json: 'a JSON schema',
  calls: 'a JSON schema',
  regex: 'a regular expression',
  choice: 'a list of texts',
  written: 'a grammar in the notation of Lark',
  free: 'a bound of thoughts',
};

/** @param part index of the part at fault, if it is known */
function grammarError(planned: PlannedGrammar, part: number | null, why: string): ApiError {
  const place = planned.placeOf(part);
  const rule = `must be ${FORMS[planned.grammar.kind]} that this server can enforce: ${why}`;
  return new ApiError('invalid_value', `${place} ${rule}`, place);
}

/**
 * @param event the end of an answer by an error
 * @param grammar the grammar of the request's plan
 */
export function failure({ isLost, error }: EndedEvent, grammar: PlannedGrammar | null): ApiError {
  if (isLost === true) return grammarsLost();
  if (isLost === false && grammar !== null)
    return grammarError(grammar, null, error ?? 'the answer exceeds its limits');
  return new ApiError('engine_failed', 'The engine failed on this request.');
}

/**
 * @param grammar the grammar of the request's plan
 */
export function engineError(event: RejectedEvent, grammar: PlannedGrammar | null): ApiError {
  switch (event.reason) {
    case 'queue_full':
      return queueFull();
    case 'grammar': {
      const why = event.detail ?? 'it cannot';
      if (grammar !== null) return grammarError(grammar, event.part ?? null, why);
      return new ApiError('invalid_value', `The grammar must be one that this server can enforce: ${why}`);
    }
    case 'grammars_lost':
      return grammarsLost(REFUSED);
    case 'too_long':
      return new ApiError('context_length_exceeded', 'Prompt and answer exceed the capacity of this server.');
    case 'unknown_token':
      return new ApiError('invalid_value', 'The prompt holds a token that the model does not know.');
    case 'budget_infeasible': {
      const least = event.leastFeasibleMs === null ? null : Math.ceil(event.leastFeasibleMs);
      const hint = least === null ? '' : `; the smallest budget accepted at this moment is ${least} ms`;
      return new ApiError('budget_infeasible', `No exit can meet the latency budget${hint}.`, null, {
        least_feasible_budget_ms: least,
        ...REFUSED,
      });
    }
  }
}

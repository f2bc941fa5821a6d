/** Maps the reasons of the engine's rejections to errors for the client. Must not know: HTTP. */
import type { RefusedEvent } from '../../engine/protocol.js';
import { ApiError } from '../errors.js';
import type { PlannedGrammar } from '../params/response-format.js';

export function grammarsLostError(): ApiError {
  return new ApiError('grammars_lost', 'The worker for structured output restarts; try again shortly.');
}

/**
 * @param grammar the grammar of the request's plan
 * @param qualityOf estimated quality of an exit layer
 */
export function engineError(
  event: RefusedEvent,
  grammar: PlannedGrammar | null,
  qualityOf: (layer: number) => number = () => 0,
): ApiError {
  switch (event.reason) {
    case 'queue_full':
      return new ApiError('queue_full', 'Too many requests are waiting; try again shortly.');
    case 'grammar': {
      const place = grammar?.placeOf(event.part ?? null) ?? null;
      const rule = `must be a JSON schema that this server can enforce: ${event.detail ?? 'it cannot'}`;
      return new ApiError('invalid_value', `${place ?? 'The schema'} ${rule}`, place);
    }
    case 'grammars_lost':
      return grammarsLostError();
    case 'too_long':
      return new ApiError('context_length_exceeded', 'Prompt and answer exceed the capacity of this server.');
    case 'unknown_token':
      return new ApiError('invalid_value', 'The prompt holds a token that the model does not know.');
    case 'budget_infeasible': {
      const least = event.leastFeasibleMs === null ? null : Math.ceil(event.leastFeasibleMs);
      const hint = least === null ? '' : `; the smallest budget accepted at this moment is ${least} ms`;
      const { bestExit } = event;
      if (bestExit === undefined) {
        return new ApiError('budget_infeasible', `No exit can meet the latency budget${hint}.`, null, {
          least_feasible_budget_ms: least,
        });
      }
      const quality = Math.floor(qualityOf(bestExit) * 1000) / 1000;
      const rule = `No exit of the least quality can meet the latency budget; exit ${bestExit} of quality ${quality} can${hint}.`;
      return new ApiError('budget_infeasible', rule, null, {
        least_feasible_budget_ms: least,
        best_quality: quality,
      });
    }
  }
}

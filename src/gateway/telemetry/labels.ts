/** Closed sets of label values. Each series starts at 0, so a query finds data before the first event. */
import type { DepthReason, DraftSource, ServiceClass } from '../../protocol/index.js';
import { OUTCOMES } from '../../protocol/outcome.js';
import { BUDGET_CLASSES } from './sequences.js';
import type { Series } from './series.js';

/** Finish reasons in vLLM's words. */
export const FINISHED_REASON = { stop: 'stop', length: 'length', deadline: 'deadline', cancelled: 'abort' } as const;

const SERVICE_CLASSES = ['guaranteed', 'best_effort', 'none'] as const satisfies readonly ServiceClass[];

const DEPTH_REASONS = ['deepest', 'budget', 'load'] as const satisfies readonly DepthReason[];

const DRAFT_SOURCES = ['prediction', 'lookup', 'exit'] as const satisfies readonly DraftSource[];

export const WAITING_REASONS = ['capacity', 'deferred'] as const;

const PROMPT_SOURCES = ['local_compute', 'local_cache_hit'] as const;

/** Initializes every series that does not depend on the model. */
export function initialize(series: Series): void {
  for (const finished_reason of Object.values(FINISHED_REASON)) series.success.inc({ finished_reason }, 0);
  for (const reason of [
    'queue_full',
    'budget_infeasible',
    'too_long',
    'unknown_token',
    'grammar',
    'grammars_lost',
    'error',
    'engine_lost',
    'internal',
  ]) {
    series.failed.inc({ reason }, 0);
  }
  for (const reason of WAITING_REASONS) series.waitingBy.set({ reason }, 0);
  for (const source of PROMPT_SOURCES) series.promptTokensBy.inc({ source }, 0);
  for (const limit of ['requests', 'tokens', 'in_flight']) series.limited.inc({ limit }, 0);
  for (const direction of ['deeper', 'shallower']) series.replans.inc({ direction }, 0);
  for (const source of DRAFT_SOURCES) {
    for (const counter of [series.drafts, series.draftTokens, series.acceptedTokens]) counter.inc({ source }, 0);
  }
  for (const time of ['ttft', 'tpot', 'total']) series.ratio.zero({ time });
  for (const outcome of ['kept', 'missed']) series.guarantees.inc({ outcome }, 0);
  for (const reason of DEPTH_REASONS) series.depthReasons.inc({ reason }, 0);
  for (const budget_class of BUDGET_CLASSES) {
    for (const outcome of OUTCOMES) series.budgets.inc({ budget_class, outcome }, 0);
  }
}

/**
 * @param exits the model's exit layers
 * @param seen exits of earlier engines; their histograms go on, because zeroing them would undo counts
 */
export function initializeExits(series: Series, exits: readonly string[], seen: ReadonlySet<string>): void {
  for (const exit_layer of exits) {
    for (const counter of [series.exitTokens, series.exitTime]) counter.inc({ exit_layer }, 0);
    for (const service_class of SERVICE_CLASSES) series.planned.inc({ exit_layer, service_class }, 0);
    if (!seen.has(exit_layer)) series.exitItl.zero({ exit_layer });
    for (const planned_exit_layer of exits) series.plannedExitTokens.inc({ planned_exit_layer, exit_layer }, 0);
  }
}

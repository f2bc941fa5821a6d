/** Counts the tokens of a step. Must not know: requests. */
import type { TokenEvent } from '../engine/protocol.js';
import type { Series } from './series.js';

/**
 * Adds equal tokens together: each increment of a counter with labels takes a microsecond.
 * @param plannedOf the exit planned at admission; null for tokens that are not part of an answer
 */
export function countTokens(
  series: Pick<Series, 'generationTokens' | 'exitTokens' | 'exitLayers' | 'plannedExitTokens'>,
  tokens: readonly TokenEvent[],
  plannedOf: (event: TokenEvent) => number | null,
): void {
  const counts = new Map<string, { readonly exit: number; readonly planned: number | null; tokens: number }>();
  for (const event of tokens) {
    const { exit } = event;
    const planned = plannedOf(event);
    const key = `${exit} ${planned ?? ''}`;
    const count = counts.get(key) ?? { exit, planned, tokens: 0 };
    count.tokens++;
    counts.set(key, count);
  }
  series.generationTokens.inc(tokens.length);
  for (const { exit, planned, tokens: count } of counts.values()) {
    const exit_layer = String(exit);
    series.exitTokens.inc({ exit_layer }, count);
    series.exitLayers.inc(exit * count);
    if (planned !== null) series.plannedExitTokens.inc({ planned_exit_layer: String(planned), exit_layer }, count);
  }
}

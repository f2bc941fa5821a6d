/**
 * The audits of one request whose client asks for them: the answer's report waits for them, its text does not.
 *
 * Must not know: how audits are made, HTTP.
 */
import type { AuditedToken, AuditEvent } from '../../protocol/index.js';
import type { TextTokenizer } from '../../text/tokenizer.js';
import type { Choice } from './choice.js';
import type { AuditReport } from '../schemas/report.js';

/** Longest time between the last token and the report: a busy engine may audit much later. */
export const AUDIT_WAIT_MS = 10_000;

/** Reasons of the gateway, beside the engine's. */
type Missing = 'busy' | 'engine_lost';

/**
 * @param events audits by the index of their choice; null where the engine exited first, absent without one so far
 * @param choices of the request
 */
export function auditReport(
  events: ReadonlyMap<number, AuditEvent | null>,
  choices: readonly Choice[],
  tokenizer: TextTokenizer,
): AuditReport {
  const missing: Missing | null = events.size < choices.length ? 'busy' : null;
  const audits = choices.map((_, index) => events.get(index));
  const skipped = missing ?? audits.map((event) => (event === null ? 'engine_lost' : event?.skipped)).find(Boolean);
  if (!audits.some((event) => event?.skipped === null)) return { skipped: skipped ?? 'busy' };
  // A choice that a stop string ended holds fewer tokens than the engine generated.
  const tokens = audits.flatMap((event, index) =>
    (event?.tokens ?? [])
      .filter(({ index: place }) => place < (choices[index]?.completionTokens ?? 0))
      .map((token) => ({ index, token })),
  );
  const differences = tokens
    .filter(({ token }) => token.best !== token.token)
    .map(({ index, token }) => ({
      choice: index,
      position: token.index,
      text_offset: choices[index]?.offsets[token.index] ?? 0,
      exit_layer: token.exit,
      token: tokenizer.spelt(token.token),
      full_depth: tokenizer.spelt(token.best),
      rank: token.rank,
      logprob: rounded(token.logprob),
      full_depth_logprob: rounded(token.bestLogprob),
    }));
  return { ...(skipped && { skipped }), ...totals(tokens.map(({ token }) => token)), differences };
}

function totals(tokens: readonly AuditedToken[]) {
  const agreeing = tokens.filter(({ best, token }) => best === token);
  const mean = (value: (token: AuditedToken) => number): number | null =>
    tokens.length === 0 ? null : rounded(tokens.reduce((sum, token) => sum + value(token), 0) / tokens.length);
  const layers = [...new Set(tokens.map(({ exit }) => exit))];
  const of = (layer: number, all: readonly AuditedToken[]): number => all.filter(({ exit }) => exit === layer).length;
  return {
    tokens: tokens.length,
    agreeing: agreeing.length,
    agreement: tokens.length === 0 ? null : rounded(agreeing.length / tokens.length),
    probability: mean(({ probability }) => probability),
    logprob_given_up: mean(({ bestLogprob, logprob }) => bestLogprob - logprob),
    exits: Object.fromEntries(
      layers.map((layer) => [String(layer), { tokens: of(layer, tokens), agreeing: of(layer, agreeing) }]),
    ),
  };
}

/** Rounds to ten-thousandths. A forbidden token has a log-probability of minus infinity, which JSON has no number for. */
function rounded(value: number): number {
  return Math.max(-9999, Math.min(9999, Math.round(value * 1e4) / 1e4));
}

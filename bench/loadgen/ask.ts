/** One request of a bench, timed by the client. */
import { performance } from 'node:perf_hooks';
import { RemoteError } from '../remote/server-error.js';
import type { RemoteServer } from '../remote/server.js';
import { type Outcome, OUTCOMES } from '../../src/protocol/outcome.js';
import {
  type Asked,
  type Asking,
  type DepthReason,
  type ServiceClass,
  type SortieReport,
  streamAnswer,
} from '../remote/stream.js';

export interface Answered {
  /** Milliseconds from the scheduled arrival to the first token; null without one. */
  readonly ttftMs: number | null;
  /** Mean time per output token after the first in ms; null below two tokens. */
  readonly tpotMs: number | null;
  /** Milliseconds from the scheduled arrival to the end. */
  readonly totalMs: number;
  /** Milliseconds from the scheduled arrival to the sending: the client's own delay. */
  readonly lagMs: number;
  /** Tokens of the answer by the server's count, or events with output if it counts none. */
  readonly tokens: number;
  /** OpenAI's `finish_reason`; null for an incomplete answer. */
  readonly finishReason: string | null;
  /** Kind of the failure (remote/errors.ts), and its message; null for a complete answer. */
  readonly error: { readonly kind: string; readonly message: string } | null;
  /** Tokens by exit layer; null if the server does not report them. */
  readonly exits: Readonly<Record<string, number>> | null;
  readonly serviceClass: ServiceClass | null;
  /** The outcome by the server's report; absent without one. */
  readonly outcome?: Outcome;
  /** Whether the answer ended early to keep its budget; null if the server does not report it. */
  readonly isLanded: boolean | null;
  /** Why the answer began at its depth; absent if the server does not report it. */
  readonly depthReason?: DepthReason;
  readonly predictedMs: number | null;
  readonly predictedTtftMs: number | null;
  /** Predicted 10% and 90% quantiles of the total in ms; null if the server does not report them. */
  readonly predictedP10Ms: number | null;
  readonly predictedP90Ms: number | null;
  /** The server's own total time and queueing time in ms. */
  readonly actualMs: number | null;
  readonly queueMs: number | null;
}

/** An answer with its text, and Sortie's report; null from another server. */
export interface Heard extends Answered {
  readonly text: string;
  readonly report: SortieReport | null;
}

/**
 * Sends a request and waits for its end. Any failure is a result.
 * @param scheduledAt the instant on the clock of `performance` that times count from. A late sending counts as latency,
 * so a slow server cannot hide behind a delayed client (coordinated omission).
 */
export async function ask(
  server: RemoteServer,
  model: string,
  asked: Asked,
  { scheduledAt = performance.now(), ...asking }: Asking & { readonly scheduledAt?: number } = {},
): Promise<Heard> {
  const lagMs = Math.max(0, performance.now() - scheduledAt);
  let firstAt: number | null = null;
  let lastAt = scheduledAt;
  let events = 0;
  let text = '';
  let counted: number | null = null;
  let finishReason: string | null = null;
  let report: SortieReport | null = null;
  let error: Answered['error'] = null;
  let told: string | null | undefined;
  try {
    for await (const part of streamAnswer(server, model, asked, asking)) {
      if (part.hasOutput) {
        lastAt = performance.now();
        firstAt ??= lastAt;
        events++;
      }
      counted = part.tokens ?? counted;
      finishReason = part.finishReason ?? finishReason;
      report = part.report ?? report;
      text += part.text;
    }
  } catch (cause) {
    if (!(cause instanceof RemoteError)) throw cause;
    error = { kind: cause.kind, message: cause.message };
    told = cause.outcome;
  }
  const tokens = counted ?? events;
  const outcome = OUTCOMES.find((each) => each === (told ?? report?.outcome));
  return {
    ttftMs: firstAt === null ? null : firstAt - scheduledAt,
    tpotMs: firstAt === null || tokens < 2 ? null : (lastAt - firstAt) / (tokens - 1),
    totalMs: performance.now() - scheduledAt,
    lagMs,
    tokens,
    text,
    finishReason: error === null ? finishReason : null,
    error,
    ...(outcome !== undefined && { outcome }),
    report,
    ...reported(report),
  };
}

function reported(report: SortieReport | null) {
  return {
    exits: report?.exit_layers ?? null,
    serviceClass: report?.plan?.service_class ?? null,
    isLanded: report === null ? null : report.landed !== undefined,
    ...(report?.plan?.reason !== undefined && { depthReason: report.plan.reason }),
    predictedMs: report?.predicted_ms ?? null,
    predictedTtftMs: report?.plan?.predicted_ttft_ms ?? null,
    predictedP10Ms: report?.predicted_p10_ms ?? null,
    predictedP90Ms: report?.predicted_p90_ms ?? null,
    actualMs: report?.actual_ms ?? null,
    queueMs: report?.queue_ms ?? null,
  };
}

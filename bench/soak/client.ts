/**
 * Sends one request of a soak and says how it ended.
 *
 * Knows: HTTP, which ends are in order. Must not know: what else is running.
 */
import type { SoakRequest } from './mix.js';

export const ENDS = ['answered', 'left', 'refused', 'failed'] as const;
export interface SoakEnd {
  /** `refused`: a status that the request or the load deserves. `failed`: anything that should not happen. */
  readonly end: (typeof ENDS)[number];
  /** For `failed`: what came instead. */
  readonly detail: string;
}

/** Full queue and infeasible budget: load and budgets decide, the server is right to say so. */
const EXPECTED_CODES = ['queue_full', 'budget_infeasible'];

/** Never throws. */
export async function send(url: string, request: SoakRequest): Promise<SoakEnd> {
  const abort = new AbortController();
  const timer =
    request.leaveAfterMs === null
      ? undefined
      : setTimeout(() => {
          abort.abort();
        }, request.leaveAfterMs);
  try {
    const response = await fetch(url + request.path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...request.headers },
      body: JSON.stringify(request.body),
      signal: abort.signal,
    });
    return judge(request, response.status, await response.text());
  } catch (error) {
    if (abort.signal.aborted) return { end: 'left', detail: '' };
    return {
      end: 'failed',
      detail: error instanceof Error ? `${error.message} ${String(error.cause)}` : String(error),
    };
  } finally {
    clearTimeout(timer);
  }
}

function judge(request: SoakRequest, status: number, text: string): SoakEnd {
  const failed = {
    end: 'failed',
    detail: `${status} ${text.slice(-300)} to ${JSON.stringify(request).slice(0, 300)}`,
  } as const;
  if (request.wrong) return status === 400 ? { end: 'refused', detail: '' } : failed;
  if (EXPECTED_CODES.some((code) => text.includes(`"code":"${code}"`))) return { end: 'refused', detail: '' };
  const streamed = request.body.stream === true;
  const whole = streamed ? text.endsWith('data: [DONE]\n\n') : text.endsWith('}');
  // At the beginning of a body or an event only: log-probabilities may be those of the word itself.
  const isError = /^(data: )?\{"error":/m.test(text);
  return status === 200 && whole && !isError ? { end: 'answered', detail: '' } : failed;
}

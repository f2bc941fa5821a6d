/** Sends one request of a soak and judges its end. */
import type { SoakRequest } from './mix.js';

export const ENDS = ['answered', 'disconnected', 'rejected', 'failed'] as const;
export interface SoakEnd {
  /** `disconnected`: the client disconnected. `rejected`: an expected error status. `failed`: any unexpected end. */
  readonly end: (typeof ENDS)[number];
  /** For `failed`: the response, or the error. */
  readonly detail: string;
}

/** Error codes that depend on load and budgets, and so are expected. */
const EXPECTED_CODES = ['queue_full', 'budget_infeasible'];

/** Sends a request; never throws. */
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
    if (abort.signal.aborted) return { end: 'disconnected', detail: '' };
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
  if (request.wrong) return status === 400 ? { end: 'rejected', detail: '' } : failed;
  if (EXPECTED_CODES.some((code) => text.includes(`"code":"${code}"`))) return { end: 'rejected', detail: '' };
  const streamed = request.body.stream === true;
  const whole = streamed ? text.endsWith('data: [DONE]\n\n') : text.endsWith('}');
  // Only at the start of a body or an event: log-probabilities may quote the same text.
  const isError = /^(data: )?\{"error":/m.test(text);
  return status === 200 && whole && !isError ? { end: 'answered', detail: '' } : failed;
}

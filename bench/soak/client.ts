/** Sends one request of a soak and judges its end. */
import { post, reasonOf } from '../post.js';
import type { SoakRequest } from './mix.js';

export interface SoakEnd {
  /** `disconnected`: the client disconnected. `rejected`: an expected error status. `failed`: any unexpected end. */
  readonly end: 'answered' | 'disconnected' | 'rejected' | 'failed';
  /** For `failed`: the response, or the error. */
  readonly detail: string;
}

/** Error codes that depend on load and budgets, and so are expected. */
const EXPECTED_CODES = ['queue_full', 'budget_infeasible'];

/** Sends a request; never throws. */
export async function send(url: string, request: SoakRequest): Promise<SoakEnd> {
  const { path, body, headers, leaveAfterMs } = request;
  const signal = leaveAfterMs === null ? undefined : AbortSignal.timeout(leaveAfterMs);
  try {
    const response = await post(url + path, body, { headers, ...(signal && { signal }) });
    return judge(request, response.status, await response.text());
  } catch (error) {
    return signal?.aborted === true ? { end: 'disconnected', detail: '' } : { end: 'failed', detail: reasonOf(error) };
  }
}

function judge(request: SoakRequest, status: number, text: string): SoakEnd {
  const detail = `${status} ${text.slice(-300)} to ${JSON.stringify(request).slice(0, 300)}`;
  const isRejected = EXPECTED_CODES.some((code) => text.includes(`"code":"${code}"`));
  if (request.wrong ? status === 400 : isRejected) return { end: 'rejected', detail: '' };
  const streamed = request.body.stream === true;
  const whole = streamed ? text.endsWith('data: [DONE]\n\n') : text.endsWith('}');
  // Only at the start of a body or an event: log-probabilities may quote the same text.
  const isError = /^(data: )?\{"error":/m.test(text);
  const isAnswered = status === 200 && whole && !isError && !request.wrong;
  return isAnswered ? { end: 'answered', detail: '' } : { end: 'failed', detail };
}

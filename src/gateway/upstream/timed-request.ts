/** The request to an upstream under a budget. Must not know: the form of answers. */
import { monotonicMs } from '../../util/clock.js';
import { isStreamed, type UpstreamCall } from './call.js';
import type { UpstreamResponse } from './connection.js';
import type { Deadline } from './deadline.js';
import type { SharedParts } from './shared-parts.js';
import { budgetHeader, forwardedBody } from './upstream-body.js';

/** A client that asked for no stream gets its counts of tokens. */
const STREAM = { stream: true, stream_options: { include_usage: true } };

/**
 * Asks for a stream in any case, with the rest of the budget, and tells the breaker.
 * @throws ApiError upstream_failed without a response; the reason of the signal once it aborts
 */
export async function asked(
  { connection, breaker }: Pick<SharedParts, 'connection' | 'breaker'>,
  call: UpstreamCall,
  deadline: Deadline,
  signal: AbortSignal,
): Promise<UpstreamResponse> {
  const { upstream } = connection;
  const response = await connection
    .post({
      path: call.path,
      body: forwardedBody(call.request, upstream, isStreamed(call) ? {} : STREAM),
      requestId: call.request.id,
      headers: { ...call.traceHeaders, ...budgetHeader(upstream, deadline.endsAt - monotonicMs()) },
      signal,
    })
    .catch((error: unknown) => {
      if (!signal.aborted) breaker.failed(monotonicMs());
      throw error;
    });
  if (response.status >= 500) breaker.failed(monotonicMs());
  else breaker.succeeded();
  return response;
}

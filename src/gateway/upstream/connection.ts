/**
 * Connections to an upstream: a pool, time-outs of each phase, bounds of sizes. It contacts the origin of its upstream
 * and no other one, and follows no redirects.
 *
 * Must not know: the form of answers, budgets.
 */
import { Pool } from 'undici';
import { ApiError } from '../api/errors.js';
import type { HeldBytes } from './held-bytes.js';
import type { Body } from './sse-events.js';
import type { Upstream } from './upstream.js';

/** The phases of an exchange, ms. OpenAI's SDKs wait ten minutes for an answer. */
const CONNECT_MS = 5000;
const HEADERS_MS = 600_000;
const SILENCE_MS = 300_000;
const MOST_HEADER_BYTES = 16 * 1024;
/** Memory of a byte of a whole body: its text, and that under the names of this server. */
const BODY_BYTES = 2;

/** Response headers that a client gets. */
const PASSED = ['content-type', 'retry-after', 'retry-after-ms', 'x-should-retry'];

export interface UpstreamResponse {
  readonly status: number;
  /** The headers that a client gets. */
  readonly headers: Readonly<Record<string, string>>;
  readonly isStream: boolean;
  readonly body: Body;
}

export class UpstreamConnection {
  readonly #pool: Pool;

  constructor(readonly upstream: Upstream) {
    this.#pool = new Pool(upstream.url.origin, {
      connect: { timeout: CONNECT_MS },
      headersTimeout: HEADERS_MS,
      bodyTimeout: SILENCE_MS,
      maxHeaderSize: MOST_HEADER_BYTES,
    });
  }

  /** @throws ApiError upstream_failed without a response; the reason of the signal once it aborts */
  async post(
    path: string,
    body: object,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<UpstreamResponse> {
    const { url, key, extraHeaders } = this.upstream;
    const asked = this.#pool.request({
      method: 'POST',
      path: `${url.pathname.replace(/\/+$/, '')}${path}${url.search}`,
      headers: {
        ...extraHeaders,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'accept-encoding': 'identity',
        'user-agent': 'sortie',
        ...(key !== null && { authorization: `Bearer ${key}` }),
        ...headers,
      },
      body: JSON.stringify(body),
      signal,
    });
    const response = await asked.catch((error: unknown) => {
      throw connectionError(error, signal);
    });
    // A response that is not read would emit its abort as an error of the process.
    response.body.on('error', () => undefined);
    const { statusCode: status } = response;
    const { 'content-encoding': encoding = 'identity', 'content-type': type } = response.headers;
    const isFollowed = (status >= 200 && status < 300) || (status >= 400 && status < 600);
    if (!isFollowed || encoding !== 'identity') {
      response.body.destroy();
      const answer = isFollowed
        ? 'encoded, which its request rules out'
        : `with status ${status}, which is not followed`;
      throw new ApiError('upstream_failed', `The upstream answered ${answer}.`);
    }
    const passed = Object.entries(response.headers).filter(([name]) => PASSED.includes(name));
    const isStream = status === 200 && String(type).startsWith('text/event-stream');
    return {
      status,
      headers: Object.fromEntries(passed.map(([n, v]) => [n, String(v)])),
      isStream,
      body: response.body,
    };
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

/** Reads a body whole. @throws ApiError for a body that is too large or ends early */
export async function wholeBody(
  { body }: Pick<UpstreamResponse, 'body'>,
  signal: AbortSignal,
  held: HeldBytes,
): Promise<string> {
  const parts: Uint8Array[] = [];
  try {
    for await (const part of body) {
      held.add(BODY_BYTES * part.length);
      parts.push(part);
    }
  } catch (error) {
    throw connectionError(error, signal);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** Faults in a sentence for the client. The text of an error names addresses. */
const FAULTS: Readonly<Record<string, string>> = {
  UND_ERR_CONNECT_TIMEOUT: 'The upstream did not accept the connection in time.',
  UND_ERR_HEADERS_TIMEOUT: 'The upstream did not begin to answer in time.',
  UND_ERR_BODY_TIMEOUT: 'The upstream stopped in the middle of its answer.',
  UND_ERR_HEADERS_OVERFLOW: 'The headers of the upstream are too large.',
  ECONNREFUSED: 'The upstream refused the connection.',
  ENOTFOUND: 'The address of the upstream is unknown.',
  EAI_AGAIN: 'The address of the upstream is unknown.',
};
const CERTIFICATE = /CERT|TLS|SSL|SIGNATURE/;
const NO_CONNECTION = /^(UND_ERR_CONNECT_TIMEOUT|ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT)$/;

/** No request reaches the upstream. */
export class Unreachable extends ApiError {}

/** The error for the client; the reason of the signal once it aborted. */
export function connectionError(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof ApiError) return error;
  const { code = '' } = error as NodeJS.ErrnoException;
  const isUntrusted = CERTIFICATE.test(code);
  const other = isUntrusted ? 'The upstream has no valid certificate.' : 'The connection to the upstream broke.';
  const Kind = isUntrusted || NO_CONNECTION.test(code) ? Unreachable : ApiError;
  return new Kind('upstream_failed', FAULTS[code] ?? other);
}

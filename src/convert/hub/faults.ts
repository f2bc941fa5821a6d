/** Faults of a download, each as one sentence for the operator, and attempts that passing ones repeat. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Pauses between attempts in milliseconds; as many attempts without progress follow the first. */
const PAUSES_MS: readonly number[] = [500, 1000, 2000, 4000, 8000, 16_000];

/** The longest pause that the hub may ask for: an operator waits for it. */
const MOST_ASKED_S = 300;

/** A fault that a retry does not mend. */
export class HubError extends Error {
  override readonly name = 'HubError';
}

/** A fault that may pass: a broken connection, an overloaded hub. */
export class PassingError extends Error {
  override readonly name = 'PassingError';
  /** @param retryAfterS pause that the hub asks for */
  constructor(
    message: string,
    readonly retryAfterS = 0,
  ) {
    super(message);
  }
}

/** The hub is out of reach: no connection, or no answer in time. */
export class UnreachableError extends PassingError {}

/** The request that the hub rejected. */
export interface Rejected {
  readonly endpoint: string;
  readonly repo: string;
  readonly revision: string;
  readonly token: string | null;
}

/** The error for an answer of the hub that is no success. */
export function rejection({ status, headers }: Response, asked: Rejected): HubError | PassingError {
  const { endpoint, repo, revision, token } = asked;
  const reason = headers.get('x-error-message');
  const answer = `${status}${reason === null ? '' : `, ${reason}`}`;
  const code = headers.get('x-error-code');
  if (status === 408 || status === 429 || status >= 500) {
    const pause = Number(headers.get('retry-after'));
    return new PassingError(`${endpoint} answers ${answer}`, Number.isFinite(pause) ? pause : 0);
  }
  const account = token === null ? ', and set HF_TOKEN to a token of that account' : ' with the account of HF_TOKEN';
  if (code === 'GatedRepo')
    return new HubError(`${repo} is gated (${status}): accept its conditions at ${endpoint}/${repo}${account}`);
  if (status === 401 && token === null)
    return new HubError(`${endpoint} has no public model ${repo} (${answer}); a private one needs HF_TOKEN`);
  if (status === 401) return new HubError(`${endpoint} rejects the token of HF_TOKEN (${answer})`);
  if (status === 403) return new HubError(`HF_TOKEN gives no access to ${repo} at ${endpoint} (${answer})`);
  if (code === 'RevisionNotFound')
    return new HubError(`${repo} at ${endpoint} has no revision ${revision} (${answer})`);
  if (status === 404) return new HubError(`${endpoint} has no model ${repo} (${answer})`);
  return new HubError(`${endpoint} answers ${answer} to a request for ${repo}`);
}

/** The code of the deepest cause of an error, such as ECONNREFUSED; its message if it has no code. */
export function causeOf(error: unknown): string {
  const { cause, code, message } = error as { cause?: unknown; code?: unknown; message?: string };
  if (cause !== undefined && cause !== null) return causeOf(cause);
  return typeof code === 'string' ? code : (message ?? String(error));
}

/**
 * Repeats work that a passing fault stopped.
 * @param attempt calls `progressed` on progress, which starts the count of attempts again
 * @throws HubError after the last attempt, or the reason of an abort
 */
export async function withRetries<T>(
  attempt: (progressed: () => void) => Promise<T>,
  signal: AbortSignal,
  pausesMs = PAUSES_MS,
): Promise<T> {
  let failures = 0;
  for (;;) {
    try {
      return await attempt(() => {
        failures = 0;
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PassingError)) throw error;
      const { message, retryAfterS } = error;
      const pause = pausesMs[failures++];
      if (pause === undefined) throw new HubError(`${message}, ${failures} times in a row`);
      if (retryAfterS > MOST_ASKED_S) throw new HubError(`${message}, and asks to wait for ${retryAfterS} s`);
      await sleep(Math.max(pause, retryAfterS * 1000), undefined, { signal }).catch(() => {
        signal.throwIfAborted();
      });
    }
  }
}

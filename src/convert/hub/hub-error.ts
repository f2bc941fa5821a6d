/** Faults of a download, each as one sentence for the operator. */

/** A fault that a retry does not mend. */
export class HubError extends Error {
  override readonly name = 'HubError';
}

/** A fault that may pass: a broken connection, an overloaded hub. */
export class PassingError extends Error {
  override readonly name = 'PassingError';
  /** @param retryAfterS pause that the hub asks for; null if it asks for none */
  constructor(
    message: string,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
  }
}

/** The hub is out of reach: no connection, or no answer in time. */
export class UnreachableError extends PassingError {}

/** The request that the hub rejected, in words. */
export interface Rejected {
  readonly endpoint: string;
  readonly repo: string;
  readonly revision: string;
  readonly hasToken: boolean;
}

/** The error for an answer of the hub that is no success. */
export function rejection(
  response: Response,
  { endpoint, repo, revision, hasToken }: Rejected,
): HubError | PassingError {
  const { status, headers } = response;
  const reason = headers.get('x-error-message');
  const answer = `${status}${reason === null ? '' : `, ${reason}`}`;
  if (status === 408 || status === 429 || status >= 500) {
    const pause = Number(headers.get('retry-after') ?? NaN);
    return new PassingError(`${endpoint} answers ${answer}`, Number.isFinite(pause) ? pause : null);
  }
  if (headers.get('x-error-code') === 'GatedRepo')
    return new HubError(
      `${repo} is gated (${status}): accept its conditions at ${endpoint}/${repo}` +
        (hasToken ? ' with the account of HF_TOKEN' : ', and set HF_TOKEN to a token of that account'),
    );
  if (status === 401)
    return new HubError(
      hasToken
        ? `${endpoint} rejects the token of HF_TOKEN (${answer})`
        : `${endpoint} has no public model ${repo} (${answer}); a private one needs HF_TOKEN`,
    );
  if (status === 403) return new HubError(`HF_TOKEN gives no access to ${repo} at ${endpoint} (${answer})`);
  if (headers.get('x-error-code') === 'RevisionNotFound')
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

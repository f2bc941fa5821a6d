/** Failures of requests to another server, each with a kind to count by. */

/** A request that has no complete answer. */
export class RemoteError extends Error {
  override readonly name = 'RemoteError';

  /**
   * @param kind the status and the code of the server's error, such as `429 queue_full`, or one of `connection
   * refused`, `connection lost`, `unknown host`, `timeout`, `cancelled`, `no stream`, `bad stream`, `incomplete stream`
   */
  constructor(
    readonly kind: string,
    message: string,
    options?: ErrorOptions,
    /** The outcome by Sortie's word; absent without it. */
    readonly outcome?: string,
  ) {
    super(message, options);
  }
}

interface Fault {
  readonly message?: unknown;
  readonly code?: unknown;
  readonly outcome?: unknown;
}

/** The forms of an error body: OpenAI's, vLLM's earlier one, FastAPI's, and a bare text. */
interface ErrorBody extends Fault {
  readonly error?: Fault | string | null | undefined;
  readonly detail?: unknown;
}

const MOST_TEXT = 300;

/** The error of a response that is not 2xx. */
export async function errorOf(response: Response): Promise<RemoteError> {
  const text = await response.text().catch(() => '');
  const { status, statusText } = response;
  const fault = faultOf(jsonOf(text));
  const code = typeof fault.code === 'string' ? ` ${fault.code}` : '';
  const message = typeof fault.message === 'string' ? fault.message : text.trim().slice(0, MOST_TEXT) || statusText;
  const outcome = typeof fault.outcome === 'string' ? fault.outcome : undefined;
  return new RemoteError(`${status}${code}`, `${status}: ${message}`, {}, outcome);
}

/** The error event of a stream that has begun. */
export function streamError(error: unknown): RemoteError {
  const { message, code } = faultOf({ error: error as ErrorBody['error'] });
  const kind = typeof code === 'string' || typeof code === 'number' ? `stream ${code}` : 'stream error';
  return new RemoteError(kind, typeof message === 'string' ? message : JSON.stringify(error));
}

function faultOf(body: ErrorBody | null): Fault {
  if (body === null) return {};
  if (typeof body.error === 'string') return { message: body.error };
  if (typeof body.error === 'object' && body.error !== null) return body.error;
  return { message: body.message ?? (typeof body.detail === 'string' ? body.detail : undefined), code: body.code };
}

function jsonOf(text: string): ErrorBody | null {
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === 'object' ? json : null;
  } catch {
    return null;
  }
}

const KINDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'unknown host',
  UND_ERR_HEADERS_TIMEOUT: 'timeout',
  UND_ERR_BODY_TIMEOUT: 'timeout',
  UND_ERR_CONNECT_TIMEOUT: 'timeout',
};

/** Names the cause of a failed fetch or of a broken body. @param signal the signal of the request */
export function connectionError(error: unknown, url: string, signal: AbortSignal | undefined): RemoteError {
  if (error instanceof RemoteError) return error;
  if (signal?.aborted === true) {
    const isTimeout = signal.reason instanceof Error && signal.reason.name === 'TimeoutError';
    return isTimeout
      ? new RemoteError('timeout', 'the answer took longer than the limit', { cause: error })
      : new RemoteError('cancelled', 'cancelled', { cause: error });
  }
  const reason = reasonOf(error);
  const kind = KINDS[reason] ?? 'connection lost';
  return new RemoteError(kind, `${kind} (${url}, ${reason})`, { cause: error });
}

/** The system's code of an error, which fetch wraps once or twice; the innermost message of an error without one. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code === 'string') return code;
  return error.cause === undefined ? error.message : reasonOf(error.cause);
}

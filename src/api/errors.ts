/**
 * Every error that a caller can get, in one table: code, HTTP status, type.
 *
 * Knows: OpenAI's error shape. Must not know: HTTP frameworks, the engine.
 */

/** `retryAfterS` is the least wait before the same request makes sense; OpenAI's SDKs honour it. */
interface ErrorKind {
  readonly status: number;
  readonly type:
    | 'invalid_request_error'
    | 'authentication_error'
    | 'not_found_error'
    | 'rate_limit_error'
    | 'server_error'
    | 'unavailable_error';
  readonly retryAfterS?: number;
}

export const ERRORS = {
  invalid_value: { status: 400, type: 'invalid_request_error' },
  invalid_json: { status: 400, type: 'invalid_request_error' },
  bad_request: { status: 400, type: 'invalid_request_error' },
  unsupported_parameter: { status: 400, type: 'invalid_request_error' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error' },
  invalid_api_key: { status: 401, type: 'authentication_error' },
  model_not_found: { status: 404, type: 'not_found_error' },
  route_not_found: { status: 404, type: 'not_found_error' },
  method_not_allowed: { status: 405, type: 'invalid_request_error' },
  request_timeout: { status: 408, type: 'invalid_request_error' },
  body_too_large: { status: 413, type: 'invalid_request_error' },
  unsupported_media_type: { status: 415, type: 'invalid_request_error' },
  headers_too_large: { status: 431, type: 'invalid_request_error' },
  /** The wait depends on the limit: each error says its own. */
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  queue_full: { status: 429, type: 'rate_limit_error', retryAfterS: 1 },
  internal_error: { status: 500, type: 'server_error' },
  engine_failed: { status: 500, type: 'server_error' },
  budget_infeasible: { status: 503, type: 'unavailable_error', retryAfterS: 1 },
  /** The thread that keeps answers to schemas died or was starved. */
  grammars_lost: { status: 503, type: 'unavailable_error', retryAfterS: 2 },
  engine_lost: { status: 503, type: 'unavailable_error', retryAfterS: 2 },
  loading: { status: 503, type: 'unavailable_error', retryAfterS: 2 },
  draining: { status: 503, type: 'unavailable_error', retryAfterS: 5 },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** The body of every error answer. Extra fields (a feasible budget, the exits) stand beside OpenAI's four. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
    readonly [extra: string]: unknown;
  };
}

/** An error whose text is meant for the caller: no paths, no stacks, no other caller's data. */
export class ApiError extends Error {
  readonly status: number;
  readonly type: string;
  /** Least wait before the same request makes sense; null where waiting is no help. */
  readonly retryAfterMs: number | null;

  constructor(
    readonly code: ErrorCode,
    message: string,
    /** The parameter or header at fault, as the caller wrote it. */
    readonly param: string | null = null,
    readonly extra: Readonly<Record<string, unknown>> = {},
    retryAfterMs: number | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
    const kind: ErrorKind = ERRORS[code];
    this.status = kind.status;
    this.type = kind.type;
    this.retryAfterMs = retryAfterMs ?? (kind.retryAfterS === undefined ? null : kind.retryAfterS * 1000);
  }

  body(): ErrorBody {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code, ...this.extra } };
  }

  /** For the log. The message quotes the request, which no log holds unasked. */
  logged(): Readonly<Record<string, string>> {
    return { code: this.code, ...(this.param === null ? {} : { param: this.param.slice(0, 64) }) };
  }
}

/** The client left: there is nobody to tell. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone';
}

/** What a caller may see of any thrown value: an ApiError as it is, everything else without its text. */
export function toApiError(error: unknown): ApiError {
  return error instanceof ApiError
    ? error
    : new ApiError('internal_error', 'The server failed to answer; the log has the details under this request id.');
}

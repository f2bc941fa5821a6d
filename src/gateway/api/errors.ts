/**
 * Every error that a client can get, in one table: code, HTTP status, type.
 *
 * Must not know: HTTP frameworks, the engine.
 */
import { type Outcome, OUTCOMES } from '../../protocol/outcome.js';
import { quoted } from '../../util/quoted.js';

/**
 * `retryAfterS` is the shortest useful wait before a retry of the same request. `isFinal`: a retry with the same budget
 * has no use. The SDKs of OpenAI and Anthropic respect both.
 */
export interface ErrorKind {
  readonly status: number;
  readonly type:
    | 'invalid_request_error'
    | 'authentication_error'
    | 'not_found_error'
    | 'rate_limit_error'
    | 'server_error'
    | 'unavailable_error';
  readonly retryAfterS?: number;
  readonly isFinal?: true;
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
  body_too_large: { status: 413, type: 'invalid_request_error' },
  unsupported_media_type: { status: 415, type: 'invalid_request_error' },
  host_not_allowed: { status: 421, type: 'invalid_request_error' },
  /** The wait depends on the limit, so each error states its own. */
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  queue_full: { status: 429, type: 'rate_limit_error', retryAfterS: 1 },
  internal_error: { status: 500, type: 'server_error' },
  engine_failed: { status: 500, type: 'server_error' },
  /** A model that runs elsewhere gave no answer. */
  upstream_failed: { status: 502, type: 'unavailable_error', retryAfterS: 1 },
  /** No whole sentence of an upstream was there in time, or no whole answer in its form. A retry is as late. */
  deadline_exceeded: { status: 504, type: 'unavailable_error', isFinal: true },
  budget_infeasible: { status: 503, type: 'unavailable_error', retryAfterS: 1, isFinal: true },
  /**
   * A part of the server was lost under the request. The status differs from 503, which says that the request did not
   * begin: a proxy repeats such a request elsewhere, and this one may have caused the loss.
   */
  grammars_lost: { status: 502, type: 'unavailable_error', retryAfterS: 2 },
  engine_lost: { status: 502, type: 'unavailable_error', retryAfterS: 2 },
  /** A readiness probe: a new request would wait too long. */
  overloaded: { status: 503, type: 'unavailable_error', retryAfterS: 5 },
  loading: { status: 503, type: 'unavailable_error', retryAfterS: 2 },
  draining: { status: 503, type: 'unavailable_error', retryAfterS: 5 },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** The body of every error response. Extra fields (a feasible budget, the exits) come after OpenAI's four. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
    readonly [extra: string]: unknown;
  };
}

/** An error whose text the client may read: no paths, no stacks, no data of other clients. */
export class ApiError extends Error {
  readonly status: number;
  readonly type: string;
  /** The shortest useful wait before a retry of the same request; null if waiting does not help. */
  readonly retryAfterMs: number | null;

  constructor(
    readonly code: ErrorCode,
    message: string,
    /** The parameter or header at fault, as the client wrote it. */
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

  /**
   * Fields for the log. The message is absent, because it quotes the request and logs hold no request text by default.
   */
  logged(): Readonly<Record<string, string>> {
    return { code: this.code, ...(this.param !== null && { param: this.param.slice(0, 64) }) };
  }

  /** The outcome of the answer that it ends; null: the request is at fault. @param hasText whether text has gone out */
  outcome(hasText: boolean): Outcome | null {
    const stated = OUTCOMES.find((each) => each === this.extra.outcome);
    return stated ?? (this.status < 500 ? null : hasText ? 'cut' : 'empty');
  }

  /** The error with the outcome in its body, for clients that count outcomes. */
  of(outcome: Outcome | null): ApiError {
    const { code, message, param, extra, retryAfterMs } = this;
    return outcome === null ? this : new ApiError(code, message, param, { ...extra, outcome }, retryAfterMs);
  }
}

/** The error of a wrong value. @param rule completes the sentence that begins with the parameter */
export function invalid(param: string, rule: string, extra: Readonly<Record<string, unknown>> = {}): ApiError {
  return new ApiError('invalid_value', `${param} ${rule}.`, param, extra);
}

/**
 * The value of a field that a schema cannot require, because its need depends on another field.
 * @throws ApiError invalid_value for an absent one
 */
export function stated<T>(value: T, param: string): NonNullable<T> {
  if (value === undefined || value === null) throw invalid(param, 'is required');
  return value;
}

/** @param rule says what the server supports instead */
export function notSupported(param: string, got: string, rule: string): ApiError {
  return new ApiError('unsupported_parameter', `${param} ${quoted(got)} is not supported: ${rule}.`, param);
}

/** The client disconnected, so no response can reach it. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone';
}

/** The error that a client may see for any thrown value. An ApiError stays; the text of any other error is hidden. */
export function toApiError(error: unknown): ApiError {
  return error instanceof ApiError
    ? error
    : new ApiError('internal_error', 'The server failed; its log has the details under this request id.');
}

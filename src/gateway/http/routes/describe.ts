/** Responses and headers in openapi.json. These schemas describe only: gateway/api checks the header values. */
import type { ErrorStatus, GeneratingEndpoint, PlainEndpoint } from '../../api/endpoints/endpoint.js';
import { type TSchema, Type } from '../../../util/schema.js';
import {
  allowHeader,
  answerHeaders,
  ASKED,
  challengeHeader,
  finalHeader,
  messageIdHeader,
  netHeaders,
  planHeaders,
  requestIdHeader,
  requestLimitHeaders,
  retryHeaders,
  tokenLimitHeaders,
  warningHeader,
} from '../../api/schemas/headers.js';

/**
 * The example is a part of the description: Swagger's page would fill it in, and several of them contradict each other.
 */
const text = (name: string, description: string, example: string) => ({
  [name.toLowerCase()]: Type.Optional(Type.String({ description: `${description} Such as ${example}.` })),
});

const budgetHeaders = Type.Object({
  ...text(ASKED.budget, 'Total latency budget in ms, from the arrival of the request to the last byte.', '300'),
  ...text(ASKED.ttft, 'TTFT budget in ms.', '100'),
  ...text(ASKED.tpot, 'TPOT budget in ms, the mean over the tokens after the first.', '10'),
  ...text(ASKED.sentence, 'Budget of the first whole sentence in ms.', '1200'),
  ...text(ASKED.onMiss, 'End of a late answer: land (default with a total), continue, truncate or reject.', 'continue'),
  ...text(ASKED.exit, 'Pins the exit layer, which must be an exit of the model, or bounds it as 15-30 does.', '15'),
  ...text(ASKED.net, 'Net of an upstream model with a total budget: answer (the default), land or off.', 'land'),
  ...text('X-Request-Id', 'Returned in the response and written to the log.', 'my-request-1'),
});

const ERROR_STATUSES = {
  400: 'A parameter or header is invalid; `param` names it.',
  401: 'The API key is missing or wrong.',
  404: 'The model is unknown.',
  405: 'The route does not support the method.',
  413: 'The body is too large.',
  415: 'The body is not JSON.',
  429: 'The queue is full, or the request exceeds a limit of its API key (x-ratelimit-*); see Retry-After.',
  500: 'The server failed.',
  502: 'A part of the server was lost under the request and restarts, or an upstream failed; see Retry-After.',
  503: 'The server loads or drains, or the budget is infeasible; see Retry-After.',
  504: 'An upstream model has no whole sentence within the budget.',
} as const satisfies Record<ErrorStatus, string>;

type Status = 200 | ErrorStatus;

type HeaderSchemas = Readonly<Record<string, TSchema>>;

const STATUS_HEADERS: Partial<Record<Status, HeaderSchemas>> = {
  401: challengeHeader,
  405: allowHeader,
  429: retryHeaders,
  502: retryHeaders,
  503: retryHeaders,
};

const limitHeaders = { ...requestLimitHeaders, ...tokenLimitHeaders };

/**
 * Headers of routes that generate. The request limits are known with the key, the token limits once the tokens are
 * counted.
 */
const GENERATION_HEADERS: Partial<Record<Status, HeaderSchemas>> = {
  200: { ...planHeaders, ...answerHeaders, ...limitHeaders, ...warningHeader },
  400: limitHeaders,
  404: requestLimitHeaders,
  413: requestLimitHeaders,
  415: requestLimitHeaders,
  429: { ...limitHeaders, ...answerHeaders },
  500: { ...limitHeaders, ...answerHeaders },
  502: { ...limitHeaders, ...answerHeaders },
  503: { ...limitHeaders, ...answerHeaders, ...finalHeader },
  504: { ...limitHeaders, ...answerHeaders, ...netHeaders, ...finalHeader },
};

/** The names of the error schemas in the document's components: OpenAI's form, and Anthropic's. */
export const ERROR_SCHEMA_ID = 'Error';
export const MESSAGES_ERROR_ID = 'MessagesError';

/** One event of a stream: `data` is JSON, or `[DONE]` in the last event of chats and completions. */
const EVENT = { type: 'object', properties: { data: { type: 'string' } } };

const json = (schema: object) => ({ 'application/json': { schema } });

/** Errors of an endpoint with a body. */
const BODY_ERRORS: readonly ErrorStatus[] = [400, 401, 404, 405, 413, 415, 429, 500, 503];

/** The parts of an endpoint that its responses follow from. */
type Described = Pick<PlainEndpoint, 'answer' | 'dialect' | 'statuses' | 'isShared'> & {
  readonly meaning?: string;
  readonly events?: string;
  readonly moreStatuses?: readonly ErrorStatus[];
};

/** @param endpoint with `events` it generates: its answer may be a stream, and has a plan and rate limits */
export function responsesOf({ answer, meaning, dialect, isShared, events, statuses, moreStatuses = [] }: Described) {
  const generates = events !== undefined;
  const errors = generates ? [...BODY_ERRORS, 502 as const, ...moreStatuses].sort() : (statuses ?? BODY_ERRORS);
  const headers = (status: Status): HeaderSchemas => ({
    ...requestIdHeader,
    // No route, and so no dialect, takes the method of a 405.
    ...(dialect !== undefined && status !== 405 && messageIdHeader),
    ...STATUS_HEADERS[status],
    ...(generates && GENERATION_HEADERS[status]),
    ...(isShared === true && status in GENERATION_HEADERS && status !== 502 && requestLimitHeaders),
  });
  const content = json({ $ref: `${dialect === undefined ? ERROR_SCHEMA_ID : MESSAGES_ERROR_ID}#` });
  return {
    200: {
      description: generates ? `With stream: true, server-sent events ${events}` : meaning,
      headers: headers(200),
      content: { ...json(answer), ...(generates && { 'text/event-stream': { schema: EVENT } }) },
    },
    ...Object.fromEntries(
      errors.map((status) => [status, { description: ERROR_STATUSES[status], headers: headers(status), content }]),
    ),
  };
}

/** The schema of a route, which validates and describes. */
export function schemaOf(endpoint: PlainEndpoint | GeneratingEndpoint<object>) {
  const { operationId, summary, tag, body } = endpoint;
  return {
    operationId,
    summary,
    tags: [tag],
    ...('operation' in endpoint ? { headers: budgetHeaders } : endpoint.params && { params: endpoint.params }),
    ...(body && { body }),
    response: responsesOf(endpoint),
  };
}

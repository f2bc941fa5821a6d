/** What openapi.json says of answers and headers. Nothing here validates: header values are checked in src/api. */
import Type, { type TSchema } from 'typebox';
import {
  allowHeader,
  challengeHeader,
  planHeaders,
  requestIdHeader,
  requestLimitHeaders,
  retryHeaders,
  tokenLimitHeaders,
} from '../../api/schemas/headers.js';

const text = (description: string, example: string) => Type.Optional(Type.String({ description, examples: [example] }));

export const budgetHeaders = Type.Object({
  'x-latency-budget-ms': text('From the arrival of the request to the last byte, ms.', '300'),
  'x-slo-ttft-ms': text('To the first token, ms. Also x-llm-d-slo-ttft-ms.', '100'),
  'x-slo-tpot-ms': text('Mean per later token, ms. Also x-llm-d-slo-tpot-ms.', '10'),
  'x-budget-on-miss': text('continue (default), truncate or reject.', 'continue'),
  'x-exit-layer': text('Pins the depth; must be an exit of the model.', '15'),
  'x-min-exit-layer': text('Least depth.', '10'),
  'x-max-exit-layer': text('Greatest depth.', '30'),
  'x-request-id': text('Comes back in the answer and in the log.', 'my-request-1'),
});

const ERROR_STATUSES = {
  400: 'A parameter or header is wrong; `param` names it.',
  401: 'API key missing or wrong.',
  404: 'Unknown model.',
  405: 'Wrong method.',
  413: 'Body too large.',
  415: 'Body is not JSON.',
  429: 'Queue full, or a limit of the API key (x-ratelimit-*); see Retry-After.',
  500: 'The server failed.',
  503: 'Loading, draining, engine restarting, or the budget is infeasible; see Retry-After.',
} as const;

type Status = 200 | keyof typeof ERROR_STATUSES;

type HeaderSchemas = Readonly<Record<string, TSchema>>;

const STATUS_HEADERS: Partial<Record<Status, HeaderSchemas>> = {
  401: challengeHeader,
  405: allowHeader,
  429: retryHeaders,
  503: retryHeaders,
};

const limitHeaders = { ...requestLimitHeaders, ...tokenLimitHeaders };

/** Of routes that generate: a limit of requests is told once the key is known, one of tokens once they are counted. */
const GENERATION_HEADERS: Partial<Record<Status, HeaderSchemas>> = {
  200: { ...planHeaders, ...limitHeaders },
  400: limitHeaders,
  404: requestLimitHeaders,
  413: requestLimitHeaders,
  415: requestLimitHeaders,
  429: limitHeaders,
  500: limitHeaders,
  503: limitHeaders,
};

/** The name of the error schema among the document's components. */
export const ERROR_SCHEMA_ID = 'Error';

/** One event of a stream: `data` is JSON, and `[DONE]` in the last one. */
const EVENT = { type: 'object', properties: { data: { type: 'string' } } };

const json = (schema: object) => ({ 'application/json': { schema } });

/**
 * @param statuses errors that the endpoint can give
 * @param generates whether the answer may be a stream of server-sent events instead, and has a plan and limits
 */
export function answers(
  answer: TSchema,
  description: string,
  statuses: readonly Exclude<Status, 200>[] = [400, 401, 404, 405, 413, 415, 429, 500, 503],
  generates = false,
) {
  const error = json({ $ref: `${ERROR_SCHEMA_ID}#` });
  const headers = (status: Status): HeaderSchemas => ({
    ...requestIdHeader,
    ...STATUS_HEADERS[status],
    ...(generates ? GENERATION_HEADERS[status] : {}),
  });
  return {
    200: {
      description,
      headers: headers(200),
      content: { ...json(answer), ...(generates ? { 'text/event-stream': { schema: EVENT } } : {}) },
    },
    ...Object.fromEntries(
      statuses.map((status) => [
        status,
        { description: ERROR_STATUSES[status], headers: headers(status), content: error },
      ]),
    ),
  };
}

/** Responses and headers in openapi.json. These schemas describe only: gateway/api checks the header values. */
import type { GeneratingEndpoint, PlainEndpoint } from '../../api/endpoints/endpoint.js';
import { Type } from '../../../util/schema.js';
import {
  answerHeaders,
  ASKED,
  errorHeaders,
  messageIdHeader,
  netHeaders,
  planHeaders,
  requestIdHeader,
  requestLimitHeaders,
  tokenLimitHeaders,
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

/** The names of the error schemas in the document's components: OpenAI's form, and Anthropic's. */
export const ERROR_SCHEMA_ID = 'Error';
export const MESSAGES_ERROR_ID = 'MessagesError';

/** One event of a stream: `data` is JSON, or `[DONE]` in the last event of chats and completions. */
const EVENT = { type: 'object', properties: { data: { type: 'string' } } };

const json = (schema: object) => ({ 'application/json': { schema } });

/** The parts of an endpoint that its responses follow from. */
type Described = Pick<PlainEndpoint, 'answer' | 'dialect' | 'isShared'> & {
  readonly meaning?: string;
  readonly events?: string;
};

/** @param endpoint with `events` it generates: its answer may be a stream, and has a plan and rate limits */
export function responsesOf({ answer, meaning, dialect, isShared, events }: Described) {
  const generates = events !== undefined;
  const common = {
    ...requestIdHeader,
    ...(dialect !== undefined && messageIdHeader),
    ...((generates || isShared === true) && requestLimitHeaders),
    ...(generates && { ...tokenLimitHeaders, ...answerHeaders, ...netHeaders }),
  };
  return {
    200: {
      description: generates ? `With stream: true, server-sent events ${events}` : meaning,
      headers: { ...common, ...(generates && planHeaders) },
      content: { ...json(answer), ...(generates && { 'text/event-stream': { schema: EVENT } }) },
    },
    default: {
      description: 'An error. `param` names the parameter or header at fault; docs/api.md has the codes.',
      headers: { ...common, ...errorHeaders },
      content: json({ $ref: `${dialect === undefined ? ERROR_SCHEMA_ID : MESSAGES_ERROR_ID}#` }),
    },
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

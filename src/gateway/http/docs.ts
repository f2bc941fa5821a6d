/**
 * openapi.json and the page of the API, from the schemas that also validate. The page's files come from the package.
 * Headers of responses are described here, and gateway/api checks their values.
 */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import type { GeneratingEndpoint, PlainEndpoint } from '../api/endpoints/endpoint.js';
import { MessagesErrorAnswer } from '../api/endpoints/messages/messages.js';
import * as declared from '../api/schemas/headers.js';
import { ErrorAnswer } from '../api/schemas/shared.js';
import { Type } from '../../util/schema.js';

/**
 * The example is a part of the description: Swagger's page would fill it in, and several of them contradict each other.
 */
const text = (name: string, description: string, example: string) => ({
  [name.toLowerCase()]: Type.Optional(Type.String({ description: `${description} Such as ${example}.` })),
});

const budgetHeaders = Type.Object({
  ...text(
    declared.ASKED.budget,
    'Total latency budget in ms, from the arrival of the request to the last byte.',
    '300',
  ),
  ...text(declared.ASKED.ttft, 'TTFT budget in ms.', '100'),
  ...text(declared.ASKED.tpot, 'TPOT budget in ms, the mean over the tokens after the first.', '10'),
  ...text(declared.ASKED.sentence, 'Budget of the first whole sentence in ms.', '1200'),
  ...text(
    declared.ASKED.onMiss,
    'End of a late answer: land (default with a total), continue, truncate or reject.',
    'continue',
  ),
  ...text(
    declared.ASKED.exit,
    'Pins the exit layer, which must be an exit of the model, or bounds it as 15-30 does.',
    '15',
  ),
  ...text(
    declared.ASKED.net,
    'Net of an upstream model with a total budget: answer (the default), land or off.',
    'land',
  ),
  ...text('X-Request-Id', 'Returned in the response and written to the log.', 'my-request-1'),
});

/** The names of the error schemas in the document's components: OpenAI's form, and Anthropic's. */
const ERROR_SCHEMA_ID = 'Error';
const MESSAGES_ERROR_ID = 'MessagesError';

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
    ...declared.requestIdHeader,
    ...(dialect !== undefined && declared.messageIdHeader),
    ...((generates || isShared === true) && declared.requestLimitHeaders),
    ...(generates && { ...declared.tokenLimitHeaders, ...declared.answerHeaders, ...declared.netHeaders }),
  };
  return {
    200: {
      description: generates ? `With stream: true, server-sent events ${events}` : meaning,
      headers: { ...common, ...(generates && declared.planHeaders) },
      content: { ...json(answer), ...(generates && { 'text/event-stream': { schema: EVENT } }) },
    },
    default: {
      description: 'An error. `param` names the parameter or header at fault; docs/api.md has the codes.',
      headers: { ...common, ...declared.errorHeaders },
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

const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 32"><text y="25" font-size="24" fill="#fff">Sortie</text></svg>';

/**
 * Serves the document of the routes registered after it, `app.swagger()`, and a page with forms to call it.
 */
export async function describeRoutes(app: FastifyInstance, version: string): Promise<void> {
  app.addSchema({ $id: ERROR_SCHEMA_ID, ...ErrorAnswer });
  app.addSchema({ $id: MESSAGES_ERROR_ID, ...MessagesErrorAnswer });
  await app.register(swagger, {
    refResolver: {
      buildLocalReference: (json, _baseUri, _fragment, i) => (typeof json.$id === 'string' ? json.$id : `def-${i}`),
    },
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Sortie',
        description:
          "Serving of one sorted model at every depth, with a latency budget per request, for OpenAI's and Anthropic's clients.",
        version,
        license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
      },
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer' },
          apiKey: { type: 'apiKey', in: 'header', name: 'X-Api-Key' },
        },
      },
      security: [{}, { bearer: [] }, { apiKey: [] }],
      // The page shows the groups in this order.
      tags: ['OpenAI', 'Anthropic', 'Sortie', 'Tokens', 'Operations'].map((name) => ({ name })),
    },
  });
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { docExpansion: 'list' },
    theme: { title: 'Sortie API' },
    logo: { type: 'image/svg+xml', content: LOGO, href: '/', target: '_self' },
  });
}

/**
 * /openapi.json and /docs, from the schemas that also validate. The page's files come from the package, not the
 * network.
 */
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { MessagesErrorAnswer } from '../../api/endpoints/messages/messages.js';
import { ErrorAnswer } from '../../api/schemas/shared.js';
import { ERROR_SCHEMA_ID, MESSAGES_ERROR_ID } from '../routes/describe.js';

/** Collects the schemas of the routes registered after it. `app.swagger()` is the document. */
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
}

const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 32"><text y="25" font-size="24" fill="#fff">Sortie</text></svg>';

/** Serves the document, and a page with forms to call it. */
export async function registerDocs(app: FastifyInstance): Promise<void> {
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { docExpansion: 'list' },
    theme: { title: 'Sortie API' },
    logo: { type: 'image/svg+xml', content: LOGO, href: '/', target: '_self' },
  });
}

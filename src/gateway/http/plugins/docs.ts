/**
 * /openapi.json and /docs, from the schemas that also validate. The page's files come from the package, not the
 * network.
 */
import swagger, { type StaticDocumentSpec } from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../cli/options/config.js';
import { MessagesErrorAnswer } from '../../api/endpoints/messages/messages-error.js';
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

/** Name and icon of the page, in place of the framework's. */
function look() {
  const file = join(packageRoot, 'src', 'web', 'icon.svg');
  // A deployment may omit the playground.
  if (!existsSync(file)) return {};
  const icon = readFileSync(file, 'utf8');
  const type = 'image/svg+xml';
  const logo = `${icon.replace('</svg>', '')}<text x="38" y="25" font-family="sans-serif" font-weight="700" font-size="24" fill="#fff">Sortie</text></svg>`;
  return {
    theme: { title: 'Sortie API', favicon: [{ filename: 'icon.svg', rel: 'icon', type, sizes: 'any', content: icon }] },
    logo: {
      type,
      content: logo.replace('viewBox="0 0 32 32"', 'viewBox="0 0 120 32"'),
      href: '/',
      target: '_self' as const,
    },
  };
}

/** Serves the app's own document and a page with forms to call it. */
export async function registerDocs(app: FastifyInstance): Promise<void> {
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
  await app.register(swaggerUi, { routePrefix: '/docs', uiConfig: { docExpansion: 'list' }, ...look() });
}

/** Serves the document of another app. The page has no forms, since they would call this port. */
export async function registerForeignDocs(app: FastifyInstance, other: FastifyInstance): Promise<void> {
  // The plugin's type covers documents of 3.0; the plugin itself does not change the document.
  const document = other.swagger() as unknown as StaticDocumentSpec['document'];
  app.get('/openapi.json', () => document);
  await app.register(swagger, { mode: 'static', specification: { document } });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    uiConfig: { docExpansion: 'list', supportedSubmitMethods: [] },
    ...look(),
  });
}

/** GET /: the playground page. Its files are read once, and the browser loads nothing from another server. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance } from 'fastify';
import { packageRoot } from '../../cli/options/config.js';

const SCRIPT = 'text/javascript; charset=utf-8';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': SCRIPT,
  '.svg': 'image/svg+xml',
};

/** The page may load and call its own origin only. */
const POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

interface File {
  readonly url: string;
  readonly type: string;
  readonly text: string;
  readonly caching: string;
}

export function registerPlayground(app: FastifyInstance): void {
  const dir = join(packageRoot, 'src', 'web');
  // A deployment may omit the page. The API does not depend on it.
  if (!existsSync(dir)) {
    app.log.warn('no playground: src/web is not installed');
    return;
  }
  for (const { url, type, text, caching } of pageFiles(dir)) {
    app.get(url, { schema: { hide: true } }, (_request, reply) =>
      reply.type(type).header('content-security-policy', POLICY).header('cache-control', caching).send(text),
    );
  }
}

/** index.html at /; its styles, modules, icon, and Marked (50 kB, MIT), which reads Markdown, below /playground/. */
function pageFiles(dir: string): File[] {
  const files = readdirSync(dir).flatMap((name) => {
    const type = TYPES[extname(name)];
    const url = name === 'index.html' ? '/' : `/playground/${name}`;
    return type === undefined ? [] : [{ url, type, text: readFileSync(join(dir, name), 'utf8'), caching: 'no-cache' }];
  });
  const marked = readFileSync(fileURLToPath(import.meta.resolve('marked')), 'utf8');
  return [...files, { url: '/playground/marked.js', type: SCRIPT, text: marked, caching: 'max-age=86400' }];
}

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

export function registerPlayground(app: FastifyInstance): void {
  const dir = join(packageRoot, 'src', 'web');
  // A deployment may omit the page. The API does not depend on it.
  if (!existsSync(dir)) {
    app.log.warn('no playground: src/web is not installed');
    return;
  }
  const serve = (url: string, file: string, type: string, caching: string): void => {
    const text = readFileSync(file, 'utf8');
    app.get(url, { schema: { hide: true } }, (_request, reply) =>
      reply.type(type).header('content-security-policy', POLICY).header('cache-control', caching).send(text),
    );
  };
  // index.html at /; its styles, modules, icon, and Marked (50 kB, MIT), which reads Markdown, below /playground/.
  for (const name of readdirSync(dir)) {
    const type = TYPES[extname(name)];
    if (type !== undefined)
      serve(name === 'index.html' ? '/' : `/playground/${name}`, join(dir, name), type, 'no-cache');
  }
  const marked = fileURLToPath(import.meta.resolve('marked'));
  serve('/playground/marked.js', marked, SCRIPT, 'max-age=86400');
}

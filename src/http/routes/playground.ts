/** GET /: the playground page. Three small files, read once, no network. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { packageRoot } from '../../config.js';

const FILES = [
  { url: '/', file: 'index.html', type: 'text/html; charset=utf-8' },
  { url: '/playground.css', file: 'playground.css', type: 'text/css; charset=utf-8' },
  { url: '/playground.js', file: 'playground.js', type: 'text/javascript; charset=utf-8' },
] as const;

/** Only the page's own files may load or be called. */
const POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Links to what is on the second port, where there is one. */
const OPS_LINKS = /<!-- ops -->.*<!-- \/ops -->/s;

/** @param hasOps whether /docs and /metrics are on this port */
export function registerPlayground(app: FastifyInstance, hasOps: boolean): void {
  const dir = join(packageRoot, 'src', 'web');
  // A deployment may leave the page out; the API must not depend on it.
  if (!existsSync(dir)) {
    app.log.warn('no playground: src/web is not installed');
    return;
  }
  for (const { url, file, type } of FILES) {
    const whole = readFileSync(join(dir, file), 'utf8');
    const text = hasOps ? whole : whole.replace(OPS_LINKS, '');
    app.get(url, { schema: { hide: true } }, (_request, reply) =>
      reply.type(type).header('content-security-policy', POLICY).header('cache-control', 'no-cache').send(text),
    );
  }
}

/** GET /: the playground page. Its three small files are read once and use no network. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { packageRoot } from '../../config.js';

const FILES = [
  { url: '/', file: 'index.html', type: 'text/html; charset=utf-8' },
  { url: '/playground.css', file: 'playground.css', type: 'text/css; charset=utf-8' },
  { url: '/playground.js', file: 'playground.js', type: 'text/javascript; charset=utf-8' },
] as const;

/** The page may load and call its own origin only. */
const POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The links to /docs and /metrics, which are absent if another port serves them. */
const OPS_LINKS = /<!-- ops -->.*<!-- \/ops -->/s;

/** @param options.hasOps whether this port serves /docs and /metrics */
export function registerPlayground(app: FastifyInstance, { hasOps }: { readonly hasOps: boolean }): void {
  const dir = join(packageRoot, 'src', 'web');
  // A deployment may omit the page. The API does not depend on it.
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

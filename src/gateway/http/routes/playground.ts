/** GET /: the playground page. Its files are read once, and the browser loads nothing from another server. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FastifyInstance } from 'fastify';
import { packageRoot } from '../../../cli/options/config.js';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/**
 * Libraries of the page, by their file there. ECharts with line and bar charts: 500 kB, Apache-2.0, loaded with the
 * load view. Marked, which reads Markdown: 50 kB, MIT.
 */
const LIBRARIES = { 'echarts.js': 'echarts/dist/echarts.simple.min.js', 'marked.js': 'marked' };

/** The page may load and call its own origin only. */
const POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** The links to /docs and /metrics, which are absent if another port serves them. */
const OPS_LINKS = /<!-- ops -->.*<!-- \/ops -->/s;

interface File {
  readonly url: string;
  readonly type: string;
  readonly text: string;
  readonly caching: string;
}

/** @param options.hasOps whether this port serves /docs and /metrics */
export function registerPlayground(app: FastifyInstance, { hasOps }: { readonly hasOps: boolean }): void {
  const dir = join(packageRoot, 'src', 'web');
  // A deployment may omit the page. The API does not depend on it.
  if (!existsSync(dir)) {
    app.log.warn('no playground: src/web is not installed');
    return;
  }
  for (const { url, type, text, caching } of [...pageFiles(dir, hasOps), ...libraries()]) {
    app.get(url, { schema: { hide: true } }, (_request, reply) =>
      reply.type(type).header('content-security-policy', POLICY).header('cache-control', caching).send(text),
    );
  }
}

/** index.html at /, its styles, modules and icon below /playground/. */
function pageFiles(dir: string, hasOps: boolean): File[] {
  return readdirSync(dir).flatMap((name) => {
    const type = TYPES[extname(name)];
    if (type === undefined) return [];
    const whole = readFileSync(join(dir, name), 'utf8');
    const isPage = name === 'index.html';
    return {
      url: isPage ? '/' : `/playground/${name}`,
      type,
      text: isPage && !hasOps ? whole.replace(OPS_LINKS, '') : whole,
      caching: 'no-cache',
    };
  });
}

function libraries(): File[] {
  return Object.entries(LIBRARIES).map(([name, library]) => {
    const text = readFileSync(fileURLToPath(import.meta.resolve(library)), 'utf8');
    return { url: `/playground/${name}`, type: TYPES['.js'] ?? '', text, caching: 'max-age=86400' };
  });
}

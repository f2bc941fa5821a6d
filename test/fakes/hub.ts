/** A server that plays the Hugging Face Hub: its API, and a second origin that holds the files, as a CDN does. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Test } from 'tap';
import { listening } from './upstream.js';

export const COMMIT = 'c0ffee'.padEnd(40, '0');

export interface FakeHub {
  readonly endpoint: string;
  /** Requests in order, such as `GET /tiny/model/resolve/...`; those of the CDN begin with `cdn`. */
  readonly requests: string[];
  /** Values of Authorization that arrived, by origin. */
  readonly tokens: { readonly hub: Set<string>; readonly cdn: Set<string> };
  /** Byte ranges that arrived at the CDN. */
  readonly ranges: string[];
  /** The files of the repository. A change shows at the next request. */
  readonly files: Map<string, Buffer>;
  commit: string;
  /** Commits of branches and tags besides main, which have the same files. */
  readonly revisions: Map<string, string>;
}

export interface Behaviour {
  /** Answers a request in the hub's place. @returns whether it did */
  readonly hub?: (request: IncomingMessage, response: ServerResponse) => boolean;
  /** The same for the CDN. */
  readonly cdn?: (request: IncomingMessage, response: ServerResponse, bytes: Buffer) => boolean;
  /** Whether the CDN ignores ranges. */
  readonly wholeFiles?: boolean;
}

/** Files from this size on are large: the hub lists their SHA-256. */
const LARGE = 2000;

const hex = (kind: string, ...parts: (string | Buffer)[]): string => {
  const hash = createHash(kind);
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

function entry(path: string, bytes: Buffer): object {
  const oid = hex('sha1', `blob ${bytes.length}\0`, bytes);
  const lfs = { oid: hex('sha256', bytes), size: bytes.length, pointerSize: 130 };
  return { type: 'file', path, size: bytes.length, oid, ...(bytes.length >= LARGE && { lfs }) };
}

function notFound(response: ServerResponse): void {
  response.writeHead(404, { 'x-error-code': 'RepoNotFound', 'x-error-message': 'Repository not found' }).end();
}

/** Serves one repository, `tiny/model`, until the test ends. Lists of files have two a page. */
export async function fakeHub(t: Test, files: Map<string, Buffer>, behaviour: Behaviour = {}): Promise<FakeHub> {
  const tokens = { hub: new Set<string>(), cdn: new Set<string>() };
  const seen = { requests: [] as string[], ranges: [] as string[] };
  const note = (kind: 'hub' | 'cdn', { method, url, headers }: IncomingMessage): void => {
    seen.requests.push(`${kind === 'cdn' ? 'cdn ' : ''}${method} ${url}`);
    if (headers.authorization !== undefined) tokens[kind].add(headers.authorization);
  };
  const cdn = await listening(
    t,
    createServer((request, response) => {
      note('cdn', request);
      const bytes = files.get(decodeURIComponent((request.url ?? '').slice(1)));
      if (bytes === undefined) return response.writeHead(404).end();
      const { range } = request.headers;
      if (range !== undefined) seen.ranges.push(range);
      if (behaviour.cdn?.(request, response, bytes) === true) return;
      const from = behaviour.wholeFiles === true ? 0 : Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
      const isPart = range !== undefined && behaviour.wholeFiles !== true;
      response.writeHead(isPart ? 206 : 200, {
        'content-length': bytes.length - from,
        ...(isPart && { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
      });
      return response.end(bytes.subarray(from));
    }),
  );
  const endpoint = await listening(
    t,
    createServer((request, response) => {
      note('hub', request);
      if (behaviour.hub?.(request, response) === true) return;
      const url = new URL(request.url ?? '', endpoint);
      const json = (value: unknown, headers = {}): void => {
        response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
      };
      const revisions = new Map([['main', result.commit], ...result.revisions]);
      const revision = /^\/api\/models\/tiny\/model\/revision\/([^/]+)$/.exec(url.pathname)?.[1];
      if (revision !== undefined) {
        const name = decodeURIComponent(revision);
        const sha = revisions.get(name) ?? [...revisions.values()].find((each) => each === name);
        if (sha === undefined) {
          const message = `Invalid rev id: ${name}`;
          response.writeHead(404, { 'x-error-code': 'RevisionNotFound', 'x-error-message': message }).end();
          return;
        }
        json({ _id: '1', id: 'tiny/model', sha, lastModified: '2026-01-01', gated: false });
        return;
      }
      const [, kind, commit = '', path] =
        /^(?:\/api\/models)?\/tiny\/model\/(tree|resolve)\/(\w+)(?:\/(.*))?$/.exec(url.pathname) ?? [];
      if (![...revisions.values()].includes(commit)) {
        notFound(response);
        return;
      }
      if (kind === 'tree') {
        const from = Number(url.searchParams.get('cursor') ?? 0);
        const all = [...files].map(([path, bytes]) => entry(path, bytes));
        const next = new URL(url);
        next.searchParams.set('cursor', String(from + 2));
        json(all.slice(from, from + 2), from + 2 < all.length ? { link: `<${next.href}>; rel="next"` } : {});
        return;
      }
      if (path !== undefined) return void response.writeHead(302, { location: `${cdn}/${path}` }).end();
      notFound(response);
    }),
  );
  const result: FakeHub = { endpoint, ...seen, tokens, files, commit: COMMIT, revisions: new Map() };
  return result;
}

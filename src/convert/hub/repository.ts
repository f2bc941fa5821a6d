/** A repository of the hub: its commit, its files, and requests to it. */
import { staysInside } from '../../util/inside-folder.js';
import type { HubAccess } from './access.js';
import { causeOf, HubError, PassingError, rejection, UnreachableError } from './hub-error.js';

/** A file of a repository. */
export interface HubFile {
  /** Path in the repository. */
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Git's SHA-1 of a small file, or the SHA-256 of a large one, as hex digits. */
  readonly digest: { readonly kind: 'git' | 'sha256'; readonly hex: string };
}

export interface Repository {
  readonly repo: string;
  /** Commit of the revision. */
  readonly commit: string;
  readonly files: readonly HubFile[];
  /** Requests a file from a position on. @throws HubError, PassingError, or the reason of an abort */
  get(file: HubFile, from: number): Promise<Response>;
}

/**
 * Lists a repository.
 * @param revision branch, tag or commit
 * @throws HubError, PassingError, or the reason of an abort
 */
export async function openRepository(
  access: HubAccess,
  repo: string,
  revision: string,
  signal: AbortSignal,
): Promise<Repository> {
  const request = requests(access, repo, revision, signal);
  // Loaded on demand: only a download needs it.
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const options = { hubUrl: access.endpoint, fetch: request };
  const { commit, files } = await answered(access.endpoint, repo, async () => {
    const { sha } = await modelInfo({ ...options, name: repo, revision, additionalFields: ['sha'] });
    if (!DIGEST.test(sha)) throw new HubError(`${access.endpoint} gives ${repo} the commit ${JSON.stringify(sha)}`);
    const found: HubFile[] = [];
    for await (const { type, path, size, oid, lfs } of listFiles({ ...options, repo, revision: sha, recursive: true }))
      if (type === 'file')
        found.push({
          path,
          size,
          digest: lfs === undefined ? { kind: 'git', hex: oid ?? '' } : { kind: 'sha256', hex: lfs.oid },
        });
    return { commit: sha, files: found };
  });
  // They become names of files on this machine.
  const unsafe = files.find((file) => !isSafe(file));
  if (unsafe !== undefined)
    throw new HubError(`${access.endpoint} lists ${JSON.stringify(unsafe)} in ${repo}, which is no file of a model`);
  return {
    repo,
    commit,
    files,
    // The blobs of the library report no progress, hide the status of a failed request, and take a whole file for the
    // part that was asked for.
    get: ({ path }, from) =>
      unencoded(
        path,
        request(`${access.endpoint}/${repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`, {
          // Encoded bytes would match neither the size nor the checksum.
          headers: { 'accept-encoding': 'identity', ...(from > 0 && { range: `bytes=${from}-` }) },
        }),
      ),
  };
}

/** @throws HubError for an encoding that was not asked for: a false one would end the process without a word */
async function unencoded(path: string, asked: Promise<Response>): Promise<Response> {
  const response = await asked;
  const encoding = response.headers.get('content-encoding') ?? 'identity';
  if (encoding === 'identity') return response;
  throw new HubError(`${path}: the server sent it as ${JSON.stringify(encoding)}, and identity was asked for`);
}

/** SHA-1 or SHA-256. */
const DIGEST = /^[0-9a-f]{40,64}$/;

/** Whether a file of a list keeps to its folder, and has a digest. The list may come from any server. */
function isSafe({ path, size, digest }: HubFile): boolean {
  const isPath = typeof path === 'string' && staysInside(path) && !/\p{Cc}/u.test(path);
  return isPath && DIGEST.test(digest.hex) && Number.isSafeInteger(size);
}

/** Faults of an answer's form, and of its transfer, in words. */
async function answered<T>(endpoint: string, repo: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof HubError || error instanceof PassingError) throw error;
    if (error instanceof SyntaxError) throw new HubError(`${endpoint} answers a request for ${repo} without JSON`);
    throw new PassingError(`the answer of ${endpoint} can't be read (${causeOf(error)})`);
  }
}

/** Longest wait for the first answer of a hub: an operator without a network learns so at once. */
const FIRST_ANSWER_MS = 4000;

/** A fetch with the token and the errors of a repository. */
function requests({ endpoint, token }: HubAccess, repo: string, revision: string, signal: AbortSignal): typeof fetch {
  /** Whether the hub has answered. */
  let isKnown = false;
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    const url = new URL(input instanceof Request ? input.url : input);
    // A page of a mirror may link to another host, which must not learn the token. A redirect drops it by itself.
    if (token !== null && url.origin === new URL(endpoint).origin) headers.set('authorization', `Bearer ${token}`);
    let response: Response;
    // Node.js itself waits 10 s for a connection that a firewall drops.
    const first = isKnown ? null : new AbortController();
    const timer = setTimeout(
      () => first?.abort(new Error(`no answer in ${FIRST_ANSWER_MS / 1000} s`)),
      FIRST_ANSWER_MS,
    );
    try {
      response = await fetch(url, {
        ...init,
        headers,
        signal: first === null ? signal : AbortSignal.any([signal, first.signal]),
      });
      isKnown = true;
    } catch (error) {
      signal.throwIfAborted();
      throw new UnreachableError(`${url.origin} can't be reached (${causeOf(error)})`);
    } finally {
      clearTimeout(timer);
    }
    if (response.ok) return response;
    await response.body?.cancel();
    throw rejection(response, { endpoint, repo, revision, hasToken: token !== null });
  };
}

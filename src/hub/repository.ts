/** A repository of the hub: its commit, its files, and requests to it. */
import type { HubAccess } from './access.js';
import { causeOf, HubError, PassingError, rejection } from './errors.js';

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
  /** Commit of the main branch. */
  readonly commit: string;
  readonly files: readonly HubFile[];
  /** Requests a file from a position on. @throws HubError, PassingError, or the reason of an abort */
  get(file: HubFile, from: number): Promise<Response>;
}

/**
 * Lists a repository.
 * @throws HubError, PassingError, or the reason of an abort
 */
export async function openRepository(access: HubAccess, repo: string, signal: AbortSignal): Promise<Repository> {
  const request = requests(access, repo, signal);
  // Loaded on demand: only a download needs it.
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const options = { hubUrl: access.endpoint, fetch: request };
  const { sha: commit } = await modelInfo({ ...options, name: repo, revision: 'main', additionalFields: ['sha'] });
  const files: HubFile[] = [];
  for await (const { type, path, size, oid = '', lfs } of listFiles({
    ...options,
    repo,
    revision: commit,
    recursive: true,
  }))
    if (type === 'file')
      files.push({
        path,
        size,
        digest: lfs === undefined ? { kind: 'git', hex: oid } : { kind: 'sha256', hex: lfs.oid },
      });
  // They become names of files on this machine.
  const unsafe = [{ path: '', digest: { hex: commit } }, ...files].find(
    ({ path, digest }) => !isSafe(path, digest.hex),
  );
  if (unsafe !== undefined)
    throw new HubError(`${access.endpoint} lists ${JSON.stringify(unsafe.path)} in ${repo}, with ${unsafe.digest.hex}`);
  return {
    repo,
    commit,
    files,
    // The blobs of the library report no progress, hide the status of a failed request, and take a whole file for the
    // part that was asked for.
    get: ({ path }, from) =>
      request(`${access.endpoint}/${repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`, {
        // Encoded bytes would match neither the size nor the checksum.
        headers: { 'accept-encoding': 'identity', ...(from > 0 && { range: `bytes=${from}-` }) },
      }),
  };
}

/** Whether a path stays in its folder, and a digest is one. */
function isSafe(path: string, digest: string): boolean {
  return !path.startsWith('/') && !path.split(/[/\\]/).includes('..') && /^[0-9a-f]{40,64}$/.test(digest);
}

/** A fetch with the token and the errors of a repository. */
function requests({ endpoint, token }: HubAccess, repo: string, signal: AbortSignal): typeof fetch {
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    const url = new URL(input instanceof Request ? input.url : input);
    // A page of a mirror may link to another host, which must not learn the token. A redirect drops it by itself.
    if (token !== null && url.origin === new URL(endpoint).origin) headers.set('authorization', `Bearer ${token}`);
    let response: Response;
    try {
      response = await fetch(url, { ...init, headers, signal });
    } catch (error) {
      signal.throwIfAborted();
      throw new PassingError(`${url.origin} can't be reached (${causeOf(error)})`);
    }
    if (response.ok) return response;
    await response.body?.cancel();
    throw rejection(response, { endpoint, repo, hasToken: token !== null });
  };
}

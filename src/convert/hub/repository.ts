/** A repository of the hub: the way to it, its commit, its files, and requests to it. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { staysInside } from '../../util/inside-folder.js';
import { causeOf, HubError, PassingError, rejection, UnreachableError } from './faults.js';

const PUBLIC_HUB = 'https://huggingface.co';

/** Longest wait for the first answer of a hub: an operator without a network learns so at once. */
const FIRST_ANSWER_MS = 4000;

/** The way to the hub, by the variables that other tools read too. */
export interface HubAccess {
  /** Address without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | null;
  /** Folder of downloads, in the layout of the Hugging Face tools. */
  readonly cacheDir: string;
  /** Whether the hub must not be contacted. */
  readonly offline: boolean;
}

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

/** @throws HubError for an address that is none */
export function hubAccess(env: Readonly<Record<string, string | undefined>>): HubAccess {
  const of = (name: string): string | null => (env[name] === '' ? null : (env[name] ?? null));
  const endpoint = (of('HF_ENDPOINT') ?? PUBLIC_HUB).replace(/\/+$/, '');
  if (!/^https?:\/\//.test(endpoint) || !URL.canParse(endpoint))
    throw new HubError(`HF_ENDPOINT must be an address such as ${PUBLIC_HUB}, got "${endpoint}"`);
  // A numeric user has no home folder.
  const cache = (): string => of('XDG_CACHE_HOME') ?? join(orElse(homedir, '') || '/', '.cache');
  const home = of('HF_HOME') ?? join(cache(), 'huggingface');
  // `hf auth login` stores a token.
  const stored = (): string => readFileSync(of('HF_TOKEN_PATH') ?? join(home, 'token'), 'utf8').trim();
  const token = of('HF_TOKEN')?.trim() ?? (orElse(stored, '') || null);
  // The error of an invalid header would print it.
  if (token !== null && !/^[!-~]+$/.test(token)) throw new HubError('HF_TOKEN must be ASCII without spaces');
  const offline = ['1', 'ON', 'YES', 'TRUE'].includes((of('HF_HUB_OFFLINE') ?? '').toUpperCase());
  return { endpoint, token, cacheDir: of('HF_HUB_CACHE') ?? join(home, 'hub'), offline };
}

function orElse<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
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
  const { endpoint } = access;
  const request = requests(access, repo, revision, signal);
  const { commit, files } = await list(endpoint, repo, revision, request);
  // They become names of files on this machine.
  const unsafe = files.find((file) => !isSafe(file));
  if (unsafe !== undefined)
    throw new HubError(`${endpoint} lists ${JSON.stringify(unsafe)} in ${repo}, which is no file of a model`);
  return {
    repo,
    commit,
    files,
    // The blobs of the library report no progress, hide the status of a failed request, and take a whole file for the
    // part that was asked for.
    async get({ path }, from) {
      const url = `${endpoint}/${repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
      // Encoded bytes would match neither the size nor the checksum.
      const headers = { 'accept-encoding': 'identity', ...(from > 0 && { range: `bytes=${from}-` }) };
      const response = await request(url, { headers });
      const encoding = response.headers.get('content-encoding') ?? 'identity';
      if (encoding === 'identity') return response;
      // A false encoding would end the process without a word.
      throw new HubError(`${path}: the server sent it as ${JSON.stringify(encoding)}, and identity was asked for`);
    },
  };
}

/** SHA-1 or SHA-256. */
const DIGEST = /^[0-9a-f]{40,64}$/;

/** The commit of a revision, and its files. @throws HubError, PassingError for an answer of another form */
async function list(
  hubUrl: string,
  repo: string,
  revision: string,
  request: typeof fetch,
): Promise<Pick<Repository, 'commit' | 'files'>> {
  // Loaded on demand: only a download needs it.
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  try {
    const options = { hubUrl, fetch: request };
    const { sha: commit } = await modelInfo({ ...options, name: repo, revision, additionalFields: ['sha'] });
    if (!DIGEST.test(commit)) throw new HubError(`${hubUrl} gives ${repo} the commit ${JSON.stringify(commit)}`);
    const files: HubFile[] = [];
    const listed = listFiles({ ...options, repo, revision: commit, recursive: true });
    for await (const { type, path, size, oid = '', lfs } of listed)
      if (type === 'file')
        files.push({ path, size, digest: lfs ? { kind: 'sha256', hex: lfs.oid } : { kind: 'git', hex: oid } });
    return { commit, files };
  } catch (error) {
    if (error instanceof HubError || error instanceof PassingError) throw error;
    if (error instanceof SyntaxError) throw new HubError(`${hubUrl} answers a request for ${repo} without JSON`);
    throw new PassingError(`the answer of ${hubUrl} can't be read (${causeOf(error)})`);
  }
}

/** Whether a file of a list keeps to its folder, and has a digest. The list may come from any server. */
function isSafe({ path, size, digest }: HubFile): boolean {
  const isPath = typeof path === 'string' && staysInside(path) && !/\p{Cc}/u.test(path);
  return isPath && DIGEST.test(digest.hex) && Number.isSafeInteger(size);
}

/** A fetch with the token and the errors of a repository. */
function requests({ endpoint, token }: HubAccess, repo: string, revision: string, signal: AbortSignal): typeof fetch {
  /** Whether the hub has answered. Node.js itself waits 10 s for a connection that a firewall drops. */
  let isKnown = false;
  return async (input, init) => {
    const headers = new Headers(init?.headers);
    const url = new URL(input instanceof Request ? input.url : input);
    // A page of a mirror may link to another host, which must not learn the token. A redirect drops it by itself.
    if (token !== null && url.origin === new URL(endpoint).origin) headers.set('authorization', `Bearer ${token}`);
    const late = new AbortController();
    const timer = setTimeout(() => {
      if (!isKnown) late.abort(new Error(`no answer in ${FIRST_ANSWER_MS / 1000} s`));
    }, FIRST_ANSWER_MS);
    const answered = await fetch(url, { ...init, headers, signal: AbortSignal.any([signal, late.signal]) })
      .catch((error: unknown) => {
        signal.throwIfAborted();
        throw new UnreachableError(`${url.origin} can't be reached (${causeOf(error)})`);
      })
      .finally(() => {
        clearTimeout(timer);
      });
    isKnown = true;
    if (answered.ok) return answered;
    await answered.body?.cancel();
    throw rejection(answered, { endpoint, repo, revision, token });
  };
}

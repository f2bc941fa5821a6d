/**
 * Downloads a model into the cache of the Hugging Face tools: blobs by checksum, and a snapshot of links for each
 * commit. So a model that another tool downloaded is there already.
 *
 * Must not know: conversions.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, statfs, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import type { HubName } from '../../util/hub-name.js';
import { chooseFiles, INDEX, indexedFiles } from './choose.js';
import { beginning, download, missingBytes } from './download.js';
import { HubError, UnreachableError, withRetries } from './faults.js';
import { type HubAccess, type HubFile, openRepository, type Repository } from './repository.js';

/** Attempts to reach the hub at all. They take 1.5 s with their pauses, or one attempt without an answer. */
const FIRST_CONTACTS = 3;
const SLOW_CONTACT_MS = 1000;

/** `done` of `total` bytes are there; `what` is the file that arrives. */
export type PullProgress = (event: { done: number; total: number; what: string }) => void;

export interface PullOptions {
  readonly signal: AbortSignal;
  readonly progress?: PullProgress;
  /** Checks the folder of the small files, before the weights. An error stops the download. */
  readonly check?: (folder: string) => void;
  /** Checks the beginning of a GGUF file, before all of it. An error stops the download. */
  readonly checkHead?: (head: Uint8Array, path: string) => void;
  /** Pauses between attempts in milliseconds. */
  readonly pausesMs?: readonly number[];
}

export interface Pulled {
  readonly commit: string;
  /** The folder, or the GGUF file: of several parts the first. */
  readonly path: string;
}

/** @throws HubError, the error of `check`, or the reason of an abort: the next call then continues */
export async function pull(name: HubName, access: HubAccess, options: PullOptions): Promise<Pulled> {
  if (access.offline) throw new HubError(`HF_HUB_OFFLINE forbids the download of ${name.repo}`);
  try {
    return await pullFiles(name, access, options);
  } catch (error) {
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code === undefined || syscall === undefined) throw error;
    throw new HubError(`${access.cacheDir} can't be written (${code}); HF_HUB_CACHE names another folder`);
  }
}

async function pullFiles(name: HubName, access: HubAccess, options: PullOptions): Promise<Pulled> {
  const { signal, progress, check, checkHead, pausesMs } = options;
  const { repo } = name;
  const revision = name.revision ?? 'main';
  const repository = await withRetries(contact(access, repo, revision, signal), signal, pausesMs);
  const { commit, files } = repository;
  const folder = join(access.cacheDir, `models--${repo.replaceAll('/', '--')}`);
  const snapshot = join(folder, 'snapshots', commit);

  const blobOf = ({ digest }: HubFile): string => join(folder, 'blobs', digest.hex);
  const fetchAll = async (wanted: readonly HubFile[]): Promise<void> => {
    const missing = await Promise.all(wanted.map((file) => missingBytes(file, blobOf(file))));
    await checkSpace(access.cacheDir, sum(missing));
    const total = sum(wanted.map(({ size }) => size));
    let done = 0;
    for (const file of wanted) {
      const onBytes = (bytes: number): void => progress?.({ done: (done += bytes), total, what: file.path });
      await download(repository, file, blobOf(file), { signal, onBytes, pausesMs });
      await link(blobOf(file), join(snapshot, file.path));
    }
  };

  const { small, weights, gguf } = chooseFiles(name, files);
  const [first] = weights ?? [];
  // A model that can't be converted is rejected before its gigabytes arrive.
  if (gguf === null) {
    await fetchAll(small);
    check?.(snapshot);
  } else if (first !== undefined && checkHead && (await missingBytes(first, blobOf(first))) === first.size)
    checkHead(await withRetries(() => beginning(repository, first), signal, pausesMs), first.path);
  await fetchAll(weights ?? indexedFiles(repo, await readFile(join(snapshot, INDEX), 'utf8'), files));
  if (revision !== commit) {
    const ref = join(folder, 'refs', revision);
    await mkdir(dirname(ref), { recursive: true });
    await writeFile(ref, commit);
  }
  return { commit, path: join(snapshot, gguf ?? '') };
}

/** Opens a repository. A download that breaks waits for its network; one that never began is told at once. */
function contact(access: HubAccess, repo: string, revision: string, signal: AbortSignal): () => Promise<Repository> {
  let unreached = 0;
  return async () => {
    const startedAt = performance.now();
    try {
      return await openRepository(access, repo, revision, signal);
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
      if (++unreached < FIRST_CONTACTS && performance.now() - startedAt <= SLOW_CONTACT_MS) throw error;
      throw new HubError(`${error.message}; without a network, --model takes a folder or a file of this machine`);
    }
  };
}

async function link(blob: string, name: string): Promise<void> {
  await mkdir(dirname(name), { recursive: true });
  // Another process may be linking the same file.
  const draft = `${name}.${randomBytes(4).toString('hex')}`;
  await symlink(relative(dirname(name), blob), draft);
  await rename(draft, name);
}

/** @param needed bytes @throws HubError if they don't fit on the disk */
async function checkSpace(dir: string, needed: number): Promise<void> {
  await mkdir(dir, { recursive: true });
  const { bavail, bsize } = await statfs(dir);
  if (needed > bavail * bsize)
    throw new HubError(`${dir} has ${size(bavail * bsize)} free, the model needs ${size(needed)} more`);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

function size(bytes: number): string {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

/**
 * Downloads one file: an interrupted download goes on where it ended, and the checksum decides.
 *
 * `snapshotDownload` of `@huggingface/hub` 2.17 takes all files of a repository, such as all 20 quantizations of a GGUF
 * model. Its `downloadFileToCacheDir` compares no checksum, starts each attempt at the first byte, and takes no signal.
 * Two processes write to the same unfinished file, which each of them takes for complete.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { link, mkdir, open, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { causeOf, HubError, PassingError, withRetries } from './faults.js';
import type { HubFile, Repository } from './repository.js';

export interface DownloadOptions {
  readonly signal: AbortSignal;
  /** Takes the number of bytes that arrived, or that were there, since the last call. */
  readonly onBytes: (bytes: number) => void;
  /** Pauses between attempts in milliseconds. */
  readonly pausesMs?: readonly number[] | undefined;
}

/** The part of a file that arrived. */
interface Part {
  readonly handle: FileHandle;
  readonly hash: Hash;
  length: number;
}

class DamagedError extends HubError {}

/**
 * Writes a file to `target`, unless a file of its size is there: the name of `target` is its checksum.
 * @throws HubError, an error of the file system, or the reason of an abort. The part that arrived stays for the next
 * call, unless it is damaged.
 */
export async function download(
  repository: Repository,
  file: HubFile,
  target: string,
  { signal, onBytes, pausesMs }: DownloadOptions,
): Promise<void> {
  const found = await sizeOf(target);
  if (found === file.size) {
    onBytes(file.size);
    return;
  }
  if (found !== null) await rm(target);
  await mkdir(dirname(target), { recursive: true });
  // Of two processes, both write the same bytes to the same places.
  const handle = await open(partOf(target), constants.O_RDWR | constants.O_CREAT);
  try {
    const part = await resumed(handle, file);
    onBytes(part.length);
    await withRetries(
      (progressed) =>
        receive(repository, file, part, (bytes) => {
          onBytes(bytes);
          progressed();
        }),
      signal,
      pausesMs,
    );
    const digest = part.hash.digest('hex');
    if (digest !== file.digest.hex)
      throw damaged(repository, file, `has the checksum ${digest}, not ${file.digest.hex}`);
    await handle.sync();
  } catch (error) {
    if (error instanceof DamagedError) await rm(partOf(target), { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  // A link replaces no file: another process may have finished the same download, and a third one may have begun a
  // part since.
  await link(partOf(target), target).catch(async (error: unknown) => {
    if ((await sizeOf(target)) !== file.size) throw error;
  });
  await rm(partOf(target), { force: true });
}

/** The first bytes of a file, as many as arrive together. @throws HubError, PassingError */
export async function beginning(repository: Repository, file: HubFile): Promise<Uint8Array> {
  for await (const bytes of bytesOf(file, await repository.get(file, 0))) return bytes;
  return new Uint8Array(0);
}

/** Bytes that a call has to receive. */
export async function missingBytes({ size }: HubFile, target: string): Promise<number> {
  if ((await sizeOf(target)) === size) return 0;
  return Math.max(0, size - ((await sizeOf(partOf(target))) ?? 0));
}

/** The file of an unfinished download. */
function partOf(target: string): string {
  return `${target}.sortie-part`;
}

async function sizeOf(file: string): Promise<number | null> {
  return (await stat(file).catch(() => null))?.size ?? null;
}

/** Reads what an earlier call left, for the checksum. */
async function resumed(handle: FileHandle, { digest, size }: HubFile): Promise<Part> {
  const hash = createHash(digest.kind === 'git' ? 'sha1' : 'sha256');
  // Git hashes a file behind this header.
  if (digest.kind === 'git') hash.update(`blob ${size}\0`);
  const { size: length } = await handle.stat();
  if (length > size) {
    await handle.truncate();
    return { handle, hash, length: 0 };
  }
  // Another process may be adding to the part, or complete it.
  if (length > 0)
    for await (const chunk of handle.createReadStream({ start: 0, end: length - 1, autoClose: false }))
      hash.update(chunk as Buffer);
  return { handle, hash, length };
}

/** Receives the rest of a file. @throws PassingError if the connection ends early */
async function receive(
  repository: Repository,
  file: HubFile,
  part: Part,
  progressed: (bytes: number) => void,
): Promise<void> {
  if (part.length === file.size) return;
  const response = await repository.get(file, part.length);
  // A server without ranges sends the whole file again.
  let skipped = response.status === 206 ? 0 : part.length;
  for await (const received of bytesOf(file, response)) {
    const bytes = received.subarray(skipped);
    skipped -= received.length - bytes.length;
    if (bytes.length === 0) continue;
    if (part.length + bytes.length > file.size) throw damaged(repository, file, `is longer than ${file.size} bytes`);
    for (let done = 0; done < bytes.length;)
      done += (await part.handle.write(bytes, done, bytes.length - done, part.length + done)).bytesWritten;
    part.hash.update(bytes);
    part.length += bytes.length;
    progressed(bytes.length);
  }
  if (part.length < file.size) throw new PassingError(`${file.path}: the connection ended early`);
}

/** The bytes of an answer as they arrive. @throws PassingError if the connection breaks */
async function* bytesOf({ path }: HubFile, { body }: Response): AsyncGenerator<Uint8Array> {
  try {
    if (body !== null) yield* body as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw new PassingError(`${path}: the connection broke (${causeOf(error)})`);
  }
}

function damaged({ repo }: Repository, { path }: HubFile, how: string): DamagedError {
  return new DamagedError(`${repo}: ${path} is damaged: it ${how}; the next download starts it again`);
}

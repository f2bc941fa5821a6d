/** Random reads of a file, with a clear error if the file is shorter than its header says. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { ConvertError } from './conversion-error.js';

/** One readSync may return at most 2 GiB. */
const MAX_READ_BYTES = 1 << 30;

export class SourceFile {
  readonly size: number;
  readonly #fd: number;

  constructor(readonly path: string) {
    try {
      // Without O_NONBLOCK, the open of a FIFO waits for a writer.
      this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (cause) {
      throw new ConvertError(`cannot open ${path}: ${(cause as Error).message}`);
    }
    const stat = fstatSync(this.#fd);
    if (!stat.isFile()) {
      closeSync(this.#fd);
      throw new ConvertError(`cannot read ${path}: it is ${stat.isDirectory() ? 'a folder' : 'not a regular file'}`);
    }
    this.size = stat.size;
  }

  /** Reads bytes [offset, offset + length) into an aligned buffer of their own, so that any typed array can view it. */
  read(offset: number, length: number, what: string): Uint8Array<ArrayBuffer> {
    if (offset + length > this.size)
      throw new ConvertError(
        `${this.path} is truncated: ${what} needs bytes up to ${offset + length}, the file has ${this.size}`,
      );
    const out = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const got = readSync(this.#fd, out, done, Math.min(MAX_READ_BYTES, length - done), offset + done);
      if (got === 0) throw new ConvertError(`${this.path} is truncated at byte ${offset + done} (${what})`);
      done += got;
    }
    return out;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Throws if a value is NaN or infinite. */
export function assertFinite(values: Float32Array, what: string): void {
  for (let i = 0; i < values.length; i++)
    if (!Number.isFinite(values[i])) throw new ConvertError(`${what} holds ${values[i]} at index ${i}`);
}

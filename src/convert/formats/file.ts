/** Random reads of a file, and its tensors, with a clear error if the file is shorter than its header says. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { ConvertError } from '../conversion-error.js';
import type { SourceTensor } from '../source.js';
import type { Format } from './dequantize.js';

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
    if (offset + length > this.size) throw this.truncated(`${what} needs bytes up to ${offset + length}`);
    const out = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const got = readSync(this.#fd, out, done, Math.min(MAX_READ_BYTES, length - done), offset + done);
      if (got === 0) throw new ConvertError(`${this.path} is truncated at byte ${offset + done} (${what})`);
      done += got;
    }
    return out;
  }

  /** @param how the header goes beyond the file */
  truncated(how: string): ConvertError {
    return new ConvertError(`${this.path} is truncated: ${how}, the file has ${this.size}`);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** A tensor in a file of any format. */
export interface StoredTensor {
  readonly name: string;
  /** Row-major, slowest first. */
  readonly shape: readonly number[];
  /** The form of its values in words, such as `dtype F32`. */
  readonly type: string;
  /** Absent: the converter reads none of the type. */
  readonly format: Format | undefined;
  readonly file: SourceFile;
  /** In bytes from the start of the file. */
  readonly offset: number;
}

/** @param end of a tensor, in bytes from the start of the file @throws ConvertError if it lies behind the file's */
export function checkInside({ file, name }: Pick<StoredTensor, 'file' | 'name'>, end: number): void {
  if (end > file.size) throw file.truncated(`tensor ${name} ends at byte ${end}`);
}

/**
 * A stored tensor; its rows are decoded on demand.
 * @param supported names of types, for the error
 */
export function tensorOf(stored: StoredTensor, supported: Iterable<string>): SourceTensor {
  const { name, shape, type, format, file, offset } = stored;
  const label = `${file.path}: tensor ${name}`;
  if (!format) throw new ConvertError(`${label} has ${type}; supported: ${[...supported].join(', ')}`);
  const width = shape.at(-1) ?? 1;
  if (width === 0 || width % format.block !== 0)
    throw new ConvertError(`${label} has rows of ${width}, no multiple of ${format.block}`);
  const rowBytes = (width / format.block) * format.bytes;
  return {
    name,
    shape,
    rows(start, count) {
      const values = new Float32Array(count * width);
      format.decode(file.read(offset + start * rowBytes, count * rowBytes, `tensor ${name}`), values);
      for (let i = 0; i < values.length; i++)
        if (!Number.isFinite(values[i])) throw new ConvertError(`${label} holds ${values[i]} at index ${i}`);
      return values;
    },
  };
}

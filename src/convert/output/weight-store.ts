/** Writes tensors into weight files of bounded size, in ONNX's external data layout, and records their places. */
import { closeSync, createReadStream, createWriteStream, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setImmediate as othersRan } from 'node:timers/promises';
import { constants, createGzip } from 'node:zlib';
import { DATA_SIZE, type DataType } from '../../engine/model/onnx-proto.js';
import type { ExternalTensor } from '../../engine/model/onnx-weights.js';

/** Bytes per file: git hosts warn above 50 MB. A single tensor larger than this gets a file of its own. */
const FILE_LIMIT_BYTES = 48_000_000;

export interface StoreOptions {
  readonly compress: boolean;
  /** Once it is aborted, `add` throws its reason and writes nothing. */
  readonly signal?: AbortSignal | undefined;
}

/** One cache line in bytes, which suits the aligned loads of every kernel. */
const ALIGNMENT_BYTES = 64;

export class WeightStore {
  /** Names of the files that it wrote. */
  readonly files: string[] = [];
  readonly #stored = new Map<string, ExternalTensor>();
  #fd: number | null = null;
  #location = '';
  #position = 0;
  readonly #folder: string;
  readonly #compress: boolean;
  readonly #signal: AbortSignal | undefined;

  constructor(folder: string, { compress, signal }: StoreOptions) {
    this.#folder = folder;
    this.#compress = compress;
    this.#signal = signal;
  }

  /** Returns a stored tensor. */
  get(name: string): ExternalTensor | undefined {
    return this.#stored.get(name);
  }

  /** Returns a stored tensor; throws if it is missing. */
  require(name: string): ExternalTensor {
    const tensor = this.#stored.get(name);
    if (!tensor) throw new Error(`${name} was not stored`);
    return tensor;
  }

  /** Appends a tensor from pieces of bytes; the pieces must add up to dims. */
  async add(name: string, dtype: DataType, dims: number[], pieces: Iterable<ArrayBufferView>): Promise<ExternalTensor> {
    await yieldToEventLoop(this.#signal);
    const length = dims.reduce((a, b) => a * b, DATA_SIZE[dtype]);
    let offset = Math.ceil(this.#position / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    if (this.#fd !== null && offset + length > FILE_LIMIT_BYTES) await this.#finishFile();
    if (this.#fd === null) offset = 0;
    const fd = this.#fd ?? this.#startFile();
    let at = offset;
    for (const piece of pieces) {
      const bytes = new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
      for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
      at += bytes.length;
    }
    if (at !== offset + length) throw new Error(`${name}: wrote ${at - offset} bytes, its dims need ${length}`);
    this.#position = at;
    const tensor = { name, dtype, dims, location: this.#location, offset, length };
    this.#stored.set(name, tensor);
    return tensor;
  }

  /** Closes the current file; later tensors begin another. */
  async finish(): Promise<void> {
    if (this.#fd !== null) await this.#finishFile();
  }

  /** Closes the current file after a failure. */
  abandon(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }

  #startFile(): number {
    this.#location = `weights-${String(this.files.length).padStart(3, '0')}.bin`;
    this.#fd = openSync(path.join(this.#folder, this.#location), 'w');
    this.#position = 0;
    return this.#fd;
  }

  async #finishFile(): Promise<void> {
    if (this.#fd === null) return;
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    this.#fd = null;
    const file = path.join(this.#folder, this.#location);
    if (this.#compress) {
      // Node writes no time stamp into the gzip header, so equal weights give equal bytes.
      const gzip = createGzip({ level: constants.Z_BEST_COMPRESSION, memLevel: constants.Z_MAX_MEMLEVEL });
      await pipeline(createReadStream(file), gzip, createWriteStream(`${file}.gz`, { flush: true }));
      rmSync(file);
    }
    this.files.push(this.#compress ? `${this.#location}.gz` : this.#location);
  }
}

/**
 * Lets the event loop run once, so that the process notices signals: a conversion computes for minutes without a pause.
 * Throws the abort reason if the signal is aborted.
 */
export async function yieldToEventLoop(signal: AbortSignal | undefined): Promise<void> {
  await othersRan();
  signal?.throwIfAborted();
}

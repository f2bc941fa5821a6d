/**
 * Writes tensors, one after another, into weight files of bounded size, and says where each of them lies.
 *
 * Knows: ONNX external data layout. Must not know: what the tensors mean.
 */
import { closeSync, createReadStream, createWriteStream, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip } from 'node:zlib';
import { DATA_SIZE, type DataType } from '../../model/onnx-proto.js';
import type { ExternalTensor } from '../../model/onnx-weights.js';
import { yieldToEventLoop } from '../yield.js';

/** Hosts of git repositories warn from 50 MB on; a single tensor larger than this gets a file of its own. */
const FILE_LIMIT = 48_000_000;
/** Cache line: enough for every kernel's aligned loads from a mapped or copied file. */
const ALIGNMENT = 64;

export class WeightStore {
  /** File names as they are on disk. */
  readonly files: string[] = [];
  private readonly stored = new Map<string, ExternalTensor>();
  private fd: number | null = null;
  private location = '';
  private position = 0;

  /** @param signal where it is aborted, the next tensor is not written: `add` throws its reason */
  constructor(
    private readonly folder: string,
    private readonly compress: boolean,
    private readonly signal?: AbortSignal,
  ) {}

  /** An earlier tensor of that name. */
  get(name: string): ExternalTensor | undefined {
    return this.stored.get(name);
  }

  /** A tensor that must have been added. */
  require(name: string): ExternalTensor {
    const tensor = this.stored.get(name);
    if (!tensor) throw new Error(`${name} was not stored`);
    return tensor;
  }

  /** Appends a tensor whose bytes come in pieces; the pieces must add up to dims. */
  async add(name: string, dtype: DataType, dims: number[], pieces: Iterable<ArrayBufferView>): Promise<ExternalTensor> {
    await yieldToEventLoop(this.signal);
    const length = dims.reduce((a, b) => a * b, DATA_SIZE[dtype]);
    let offset = Math.ceil(this.position / ALIGNMENT) * ALIGNMENT;
    if (this.fd !== null && offset + length > FILE_LIMIT) await this.finishFile();
    if (this.fd === null) offset = 0;
    const fd = this.fd ?? this.startFile();
    let at = offset;
    for (const piece of pieces) {
      const bytes = new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength);
      for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, at + done);
      at += bytes.length;
    }
    if (at !== offset + length) throw new Error(`${name}: wrote ${at - offset} bytes, its dims need ${length}`);
    this.position = at;
    const tensor = { name, dtype, dims, location: this.location, offset, length };
    this.stored.set(name, tensor);
    return tensor;
  }

  /** Ends the file at hand; what is added later begins another. */
  async finish(): Promise<void> {
    if (this.fd !== null) await this.finishFile();
  }

  /** Closes without finishing, after a failure. */
  abandon(): void {
    if (this.fd !== null) closeSync(this.fd);
    this.fd = null;
  }

  private startFile(): number {
    this.location = `weights-${String(this.files.length).padStart(3, '0')}.bin`;
    this.fd = openSync(path.join(this.folder, this.location), 'w');
    this.position = 0;
    return this.fd;
  }

  private async finishFile(): Promise<void> {
    if (this.fd === null) return;
    fsyncSync(this.fd);
    closeSync(this.fd);
    this.fd = null;
    const file = path.join(this.folder, this.location);
    if (this.compress) {
      // Node writes no time stamp into the gzip header, so equal weights give equal bytes.
      const gzip = createGzip({ level: constants.Z_BEST_COMPRESSION, memLevel: constants.Z_MAX_MEMLEVEL });
      await pipeline(createReadStream(file), gzip, createWriteStream(`${file}.gz`, { flush: true }));
      rmSync(file);
    }
    this.files.push(this.compress ? `${this.location}.gz` : this.location);
  }
}

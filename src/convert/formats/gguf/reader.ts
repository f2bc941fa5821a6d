/**
 * The GGUF container: key-value metadata and a table of tensors (github.com/ggml-org/ggml, docs/gguf.md). Reads
 * versions 2 and 3, little endian.
 */
import { ConvertError } from '../../conversion-error.js';
import { SourceFile } from '../../file.js';
import { GGML_FORMATS } from './dequantize.js';

export type GgufValue = number | boolean | string | GgufValue[];

export interface GgufTensorInfo {
  name: string;
  /** Row-major, slowest first (GGUF stores them fastest first). */
  shape: number[];
  type: number;
  file: SourceFile;
  /** In bytes from the start of the file. */
  offset: number;
}

export interface GgufFile {
  file: SourceFile;
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: ReadonlyMap<string, GgufTensorInfo>;
}

const MAGIC = 0x46554747; // "GGUF"
const DEFAULT_ALIGNMENT_BYTES = 32;
/** GGML_MAX_DIMS of llama.cpp. */
const MAX_RANK = 4;
/** The reader takes the file in windows of this size: headers of large vocabularies are a few MB. */
const WINDOW_BYTES = 16 << 20;

/**
 * Most values of the header: those of arrays, keys and tensors together. The largest vocabularies have a million with
 * their scores, types and merges. A sparse file may have any length, so its size bounds nothing.
 */
const MAX_VALUES = 2 ** 23;
const MAX_HEADER_BYTES = 2 ** 28;
/** The length of a name, and a type. */
const MIN_ENTRY_BYTES = 12;

const STRING = 8;
const ARRAY = 9;
/** Bytes of the other types of values, and how they are read. */
const SCALARS = new Map<number, readonly [bytes: number, read: (view: DataView, at: number) => number | boolean]>([
  [0, [1, (view, at) => view.getUint8(at)]],
  [1, [1, (view, at) => view.getInt8(at)]],
  [2, [2, (view, at) => view.getUint16(at, true)]],
  [3, [2, (view, at) => view.getInt16(at, true)]],
  [4, [4, (view, at) => view.getUint32(at, true)]],
  [5, [4, (view, at) => view.getInt32(at, true)]],
  [6, [4, (view, at) => view.getFloat32(at, true)]],
  [7, [1, (view, at) => view.getUint8(at) !== 0]],
  [10, [8, (view, at) => Number(view.getBigUint64(at, true))]],
  [11, [8, (view, at) => Number(view.getBigInt64(at, true))]],
  [12, [8, (view, at) => view.getFloat64(at, true)]],
]);

/** Reads the header forwards, one window at a time. */
class Cursor {
  #values = 0;
  #window = new Uint8Array(0);
  #view = new DataView(this.#window.buffer);
  #start = 0;
  position = 0;
  readonly #file: SourceFile;

  constructor(file: SourceFile) {
    this.#file = file;
  }

  take(length: number): { view: DataView; at: number } {
    if (this.position + length > Math.min(MAX_HEADER_BYTES, this.#file.size)) this.#reject(this.position + length);
    if (this.position < this.#start || this.position + length > this.#start + this.#window.length) {
      const size = Math.max(length, Math.min(WINDOW_BYTES, this.#file.size - this.position));
      this.#window = this.#file.read(this.position, size, 'the GGUF header');
      this.#view = new DataView(this.#window.buffer);
      this.#start = this.position;
    }
    const at = this.position - this.#start;
    this.position += length;
    return { view: this.#view, at };
  }

  #reject(end: number): never {
    const { path, size } = this.#file;
    if (end > size) throw new ConvertError(`${path} is truncated: its header needs ${end} bytes, the file has ${size}`);
    throw new ConvertError(`${path}: the header must have at most ${MAX_HEADER_BYTES} bytes, got ${end}`);
  }

  /** Reads a count of values. @param bytes that each of them has at least @throws ConvertError for more than fit */
  count(bytes: number): number {
    const count = this.u64();
    this.#values += count;
    if (this.#values > MAX_VALUES)
      throw new ConvertError(
        `${this.#file.path}: the header must have at most ${MAX_VALUES} values, got ${this.#values}`,
      );
    if (this.position + count * bytes > this.#file.size) this.#reject(this.position + count * bytes);
    return count;
  }

  u32(): number {
    const { view, at } = this.take(4);
    return view.getUint32(at, true);
  }

  u64(): number {
    const { view, at } = this.take(8);
    const value = Number(view.getBigUint64(at, true));
    if (!Number.isSafeInteger(value)) throw new ConvertError(`${this.#file.path}: count ${value} is too large`);
    return value;
  }

  string(): string {
    const length = this.u64();
    const { at } = this.take(length);
    return Buffer.from(this.#window.buffer, at, length).toString('utf8');
  }

  value(type: number): GgufValue {
    const scalar = SCALARS.get(type);
    if (scalar !== undefined) {
      const [bytes, read] = scalar;
      const { view, at } = this.take(bytes);
      return read(view, at);
    }
    if (type === STRING) return this.string();
    if (type !== ARRAY) throw new ConvertError(`${this.#file.path}: metadata value of unknown type ${type}`);
    const element = this.u32();
    // llama.cpp reads no nested arrays, and a damaged file may nest them deeper than the stack allows.
    if (element === ARRAY) throw new ConvertError(`${this.#file.path}: metadata holds an array of arrays`);
    return Array.from({ length: this.count(1) }, () => this.value(element));
  }
}

/** Parses the header and checks that every tensor lies inside the file. The file stays open for the tensors. */
export function readGguf(path: string): GgufFile {
  const file = new SourceFile(path);
  try {
    const cursor = new Cursor(file);
    if (cursor.u32() !== MAGIC) throw new ConvertError(`${path} is not a GGUF file`);
    const version = cursor.u32();
    if (version !== 2 && version !== 3)
      throw new ConvertError(`${path}: GGUF version must be 2 or 3 (little endian), got ${version}`);
    const tensorCount = cursor.count(MIN_ENTRY_BYTES);
    const keyCount = cursor.count(MIN_ENTRY_BYTES);
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < keyCount; i++) {
      const key = cursor.string();
      metadata.set(key, cursor.value(cursor.u32()));
    }
    const infos: GgufTensorInfo[] = [];
    for (let i = 0; i < tensorCount; i++) {
      const name = cursor.string();
      const rank = cursor.u32();
      if (rank > MAX_RANK)
        throw new ConvertError(
          `${path}: tensor ${name.slice(0, 80)} must have at most ${MAX_RANK} dimensions, got ${rank}`,
        );
      const shape: number[] = [];
      for (let d = 0; d < rank; d++) shape.unshift(cursor.u64());
      const type = cursor.u32();
      infos.push({ name, shape, type, file, offset: cursor.u64() });
    }
    const alignment = alignmentOf(path, metadata);
    const base = Math.ceil(cursor.position / alignment) * alignment;
    for (const info of infos) {
      info.offset += base;
      checkInside(info);
    }
    return { file, metadata, tensors: new Map(infos.map((info) => [info.name, info])) };
  } catch (error) {
    file.close();
    throw error;
  }
}

function alignmentOf(path: string, metadata: GgufFile['metadata']): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT_BYTES;
  if (typeof alignment === 'number' && Number.isSafeInteger(alignment) && alignment > 0) return alignment;
  throw new ConvertError(
    `${path}: general.alignment must be a positive integer, got ${JSON.stringify(alignment).slice(0, 60)}`,
  );
}

/** Checks that a tensor ends inside the file. Of a type without decoder only the start is checked here. */
function checkInside({ name, shape, type, file, offset }: GgufTensorInfo): void {
  const format = GGML_FORMATS.get(type);
  const weights = shape.reduce((a, b) => a * b, 1);
  const end = offset + (format ? Math.ceil(weights / format.block) * format.bytes : 0);
  if (end > file.size)
    throw new ConvertError(`${file.path} is truncated: tensor ${name} ends at byte ${end}, the file has ${file.size}`);
}

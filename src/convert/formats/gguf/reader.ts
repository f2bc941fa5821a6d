/**
 * The GGUF container: key-value metadata and a table of tensors (github.com/ggml-org/ggml, docs/gguf.md). Reads
 * versions 2 and 3, little endian, of one file, or of the parts that llama.cpp splits a large model into.
 */
import { existsSync } from 'node:fs';
import { ggufPart, ggufPaths } from '../../../util/gguf-parts.js';
import { familyOfGguf } from '../../architectures/families.js';
import { ConvertError } from '../../conversion-error.js';
import { GGML_FORMATS } from '../dequantize.js';
import { checkInside, SourceFile, type StoredTensor } from '../file.js';

export type GgufValue = number | boolean | string | GgufValue[];
export type Metadata = ReadonlyMap<string, GgufValue>;

export interface GgufFile {
  readonly file: SourceFile;
  readonly metadata: Metadata;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

export interface GgufModel {
  /** The first file. */
  readonly path: string;
  /** Of the first file. */
  readonly metadata: Metadata;
  /** Of all files. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly close: () => void;
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
/** Magic number and version, then counts of tensors and keys. */
const FIRST_KEY = 24;

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

function fault(path: string, what: string): ConvertError {
  return new ConvertError(`${path}: ${what}`);
}

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
    this.#checkEnd(this.position + length, Math.min(MAX_HEADER_BYTES, this.#file.size));
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

  #checkEnd(end: number, most: number): void {
    const { path, size } = this.#file;
    if (end <= most) return;
    if (end > size) throw this.#file.truncated(`its header needs ${end} bytes`);
    throw fault(path, `the header must have at most ${MAX_HEADER_BYTES} bytes, got ${end}`);
  }

  /** Reads a count of values. @param bytes that each of them has at least @throws ConvertError for more than fit */
  count(bytes: number): number {
    const count = this.u64();
    this.#values += count;
    if (this.#values > MAX_VALUES)
      throw fault(this.#file.path, `the header must have at most ${MAX_VALUES} values, got ${this.#values}`);
    this.#checkEnd(this.position + count * bytes, this.#file.size);
    return count;
  }

  u32(): number {
    const { view, at } = this.take(4);
    return view.getUint32(at, true);
  }

  u64(): number {
    const { view, at } = this.take(8);
    const value = Number(view.getBigUint64(at, true));
    if (Number.isSafeInteger(value)) return value;
    throw fault(this.#file.path, `count ${value} is too large`);
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
    if (type !== ARRAY) throw fault(this.#file.path, `metadata value of unknown type ${type}`);
    const element = this.u32();
    // llama.cpp reads no nested arrays, and a damaged file may nest them deeper than the stack allows.
    if (element === ARRAY) throw fault(this.#file.path, 'metadata holds an array of arrays');
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
      throw fault(path, `GGUF version must be 2 or 3 (little endian), got ${version}`);
    const tensorCount = cursor.count(MIN_ENTRY_BYTES);
    const keyCount = cursor.count(MIN_ENTRY_BYTES);
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < keyCount; i++) {
      const key = cursor.string();
      metadata.set(key, cursor.value(cursor.u32()));
    }
    const entries = Array.from({ length: tensorCount }, () => readEntry(cursor, path));
    const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT_BYTES;
    if (typeof alignment !== 'number' || !Number.isSafeInteger(alignment) || alignment <= 0)
      throw fault(path, `general.alignment must be a positive integer, got ${JSON.stringify(alignment).slice(0, 60)}`);
    const base = Math.ceil(cursor.position / alignment) * alignment;
    const tensors = entries.map(({ name, shape, type, offset }): [string, StoredTensor] => {
      const format = GGML_FORMATS.get(type);
      const tensor = { name, shape, type: `ggml type ${type}`, format, file, offset: base + offset };
      // Of a type without decoder only the start is checked here.
      const blocks = Math.ceil(shape.reduce((a, b) => a * b, 1) / (format?.block ?? 1));
      checkInside(tensor, tensor.offset + blocks * (format?.bytes ?? 0));
      return [name, tensor];
    });
    return { file, metadata, tensors: new Map(tensors) };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Reads a tensor's entry. GGUF stores the fastest dimension first. */
function readEntry(cursor: Cursor, path: string): { name: string; shape: number[]; type: number; offset: number } {
  const name = cursor.string();
  const rank = cursor.u32();
  if (rank > MAX_RANK)
    throw fault(path, `tensor ${name.slice(0, 80)} must have at most ${MAX_RANK} dimensions, got ${rank}`);
  const shape = Array.from({ length: rank }, () => cursor.u64()).reverse();
  return { name, shape, type: cursor.u32(), offset: cursor.u64() };
}

/**
 * Opens all files of a model.
 * @param path the file, or any of its parts
 * @throws ConvertError if a part is missing, or belongs to another model
 */
export function readGgufModel(path: string): GgufModel {
  const files: GgufFile[] = [];
  const close = (): void => {
    for (const { file } of files) file.close();
  };
  const open = (each: string): GgufFile => {
    const file = readGguf(each);
    files.push(file);
    return file;
  };
  try {
    const own = open(path);
    if (partOf(own).count <= 1) return { ...own, path, close };
    checkPart(own);
    const paths = ggufPaths(path);
    const missing = paths.find((each) => !existsSync(each));
    if (missing !== undefined)
      throw new ConvertError(`${path} is one of ${paths.length} parts, and ${missing} is missing`);
    const tensors = new Map<string, StoredTensor>();
    const [first = own] = paths.map((each) => {
      const part = each === path ? own : open(each);
      checkPart(part);
      for (const [name, tensor] of part.tensors) {
        if (tensors.has(name)) throw new ConvertError(`${each} repeats the tensor ${name} of an earlier part`);
        tensors.set(name, tensor);
      }
      return part;
    });
    const stated = first.metadata.get('split.tensors.count') ?? tensors.size;
    if (stated !== tensors.size)
      throw new ConvertError(`${paths[0]} must have ${String(stated)} tensors in all parts, got ${tensors.size}`);
    return { path: paths[0], metadata: first.metadata, tensors, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The part that a file is by its metadata. */
function partOf({ metadata }: GgufFile): { readonly number: number; readonly count: number } {
  return { number: Number(metadata.get('split.no') ?? 0) + 1, count: Number(metadata.get('split.count') ?? 1) };
}

/** The other parts are found by their names. */
function checkPart(part: GgufFile): void {
  const { path } = part.file;
  const { number, count } = partOf(part);
  const named = ggufPart(path);
  if (named?.number === number && named.count === count) return;
  const rule = `must have a name like model-00001-of-00003.gguf, since it is part ${number} of ${count}`;
  throw new ConvertError(`${path} ${rule}`);
}

/**
 * Checks the architecture where the known writers put it, in the first key, so that an unknown one costs no download.
 * @param head the beginning of the file, some hundred bytes
 * @throws ConvertError unless the file is a GGUF file, of a known architecture or of one that comes later in the file
 */
export function checkGgufHead(head: Uint8Array, file: string): void {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (!bytes.toString('latin1', 0, 4).startsWith('GGUF')) throw new ConvertError(`${file} is not a GGUF file`);
  const text = (at: number): string => bytes.toString('utf8', at + 8, at + 8 + bytes.readUInt32LE(at));
  if (bytes.length < 2 * FIRST_KEY) return;
  const key = text(FIRST_KEY);
  const type = FIRST_KEY + 8 + key.length;
  if (key !== 'general.architecture' || bytes.length < type + 12 || bytes.readUInt32LE(type) !== STRING) return;
  familyOfGguf(text(type + 4), file);
}

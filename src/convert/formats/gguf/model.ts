/** A GGUF model of one file, or of the parts that llama.cpp splits a large one into. */
import { existsSync } from 'node:fs';
import { ggufPart, ggufPaths } from '../../../util/gguf-parts.js';
import { ConvertError } from '../../conversion-error.js';
import { type GgufFile, type GgufTensorInfo, type GgufValue, readGguf } from './reader.js';

export interface GgufModel {
  /** The first file. */
  readonly path: string;
  /** Of the first file. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Of all files. */
  readonly tensors: ReadonlyMap<string, GgufTensorInfo>;
  readonly close: () => void;
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
    if (missing !== undefined) throw fault(path, `is one of ${paths.length} parts, and ${missing} is missing`);
    const parts = paths.map((each) => (each === path ? own : open(each)));
    const tensors = new Map<string, GgufTensorInfo>();
    for (const part of parts) {
      checkPart(part);
      for (const [name, info] of part.tensors) {
        if (tensors.has(name)) throw fault(part.file.path, `repeats the tensor ${name} of an earlier part`);
        tensors.set(name, info);
      }
    }
    const [first = own] = parts;
    const stated = first.metadata.get('split.tensors.count');
    if (stated !== undefined && stated !== tensors.size)
      throw fault(first.file.path, `must have ${String(stated)} tensors in all parts, got ${tensors.size}`);
    return { path: first.file.path, metadata: first.metadata, tensors, close };
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
  if (named?.number !== number || named.count !== count)
    throw fault(path, `must have a name like model-00001-of-00003.gguf, since it is part ${number} of ${count}`);
}

function fault(path: string, what: string): ConvertError {
  return new ConvertError(`${path} ${what}`);
}

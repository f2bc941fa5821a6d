/** Reads the small files of a model folder, which may come from anyone. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { jsonSize } from '../../../util/json-size.js';
import { insideFolder } from '../../../util/inside-folder.js';
import { ConvertError } from '../../conversion-error.js';
import { SourceFile } from '../file.js';

/** The largest tokenizers have 35 MB. */
const MAX_TEXT_BYTES = 256 * 2 ** 20;
/** A tokenizer of 256,000 tokens and 580,000 merges, each a list of two, has 2.6 million. */
const MAX_VALUES = 2 ** 22;

export type Json = Record<string, unknown>;

/**
 * @param name of a file
 * @returns its path, also of a file that is missing
 * @throws ConvertError for a file outside of the folder
 */
export function inside(folder: string, name: string): string {
  try {
    return insideFolder(folder, name);
  } catch (error) {
    throw new ConvertError((error as Error).message);
  }
}

/** @throws ConvertError for a path outside of the folder or no regular file, or a longer one */
export function readText(folder: string, name: string): string {
  const file = new SourceFile(inside(folder, name));
  try {
    const { path: found, size } = file;
    if (size > MAX_TEXT_BYTES)
      throw new ConvertError(`cannot read ${found}: it has ${size} bytes, at most ${MAX_TEXT_BYTES} are expected`);
    return Buffer.from(file.read(0, size, 'the text').buffer).toString('utf8');
  } finally {
    file.close();
  }
}

/** The text of a file; null if the folder has no such file. */
export function readOptionalText(folder: string, name: string): string | null {
  return existsSync(path.join(folder, name)) ? readText(folder, name) : null;
}

/** Throws ConvertError if the file is missing, malformed or not an object. */
export function readJson(folder: string, name: string): Json {
  const fail = (why: string): ConvertError => new ConvertError(`${path.join(folder, name)} ${why}`);
  return parseObject(readText(folder, name), MAX_VALUES, fail);
}

/** Like readJson, but returns an empty object if the file is missing. */
export function readOptionalJson(folder: string, name: string): Json {
  return existsSync(path.join(folder, name)) ? readJson(folder, name) : {};
}

/**
 * @param text an object in JSON of at most `most` values
 * @param fail makes the error from what the text must be
 */
export function parseObject(text: string, most: number, fail: (why: string) => ConvertError): Json {
  const { containers, commas } = jsonSize(text);
  if (1 + containers + commas > most) throw fail(`must have at most ${most} values`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw fail(`must be JSON: ${(cause as Error).message}`);
  }
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Json;
  throw fail(`must be an object, got ${JSON.stringify(json).slice(0, 60)}`);
}

/** Reads the JSON files of a folder. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ConvertError } from '../errors.js';
import { readText } from './text-file.js';

export type Json = Record<string, unknown>;

/** Throws ConvertError bad_source if the file is missing, malformed or not an object. */
export function readJson(folder: string, name: string): Json {
  const file = path.join(folder, name);
  const text = readText(folder, name);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ConvertError('bad_source', `cannot read ${file}: ${(cause as Error).message}`);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new ConvertError('bad_source', `${file} must hold an object, got ${JSON.stringify(json).slice(0, 60)}`);
  return json as Json;
}

/** Like readJson, but returns an empty object if the file is missing. */
export function readOptionalJson(folder: string, name: string): Json {
  return existsSync(path.join(folder, name)) ? readJson(folder, name) : {};
}

/** Reads the measured quality of the exits from a JSON file: {"10": {"kl": 1.2, "agreement": 0.55}, ...}. */
import { readFileSync } from 'node:fs';
import { type Static, Type } from '../util/schema.js';
import { Quality } from '../engine/model/manifest.js';
import { validationMessage } from '../util/validation-message.js';
import { ConvertError, UsageError } from './conversion-error.js';

const QualityFile = Type.Record(Type.String({ pattern: '^[1-9][0-9]*$' }), Quality);

/** Quality by exit layer. Throws ConvertError if the file is malformed or names a layer that is not an exit. */
export function readQuality(file: string, exits: readonly number[]): ReadonlyMap<number, Quality> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new ConvertError(`cannot read ${file}: ${(cause as Error).message}`);
  }
  const fault = validationMessage(QualityFile, json);
  if (fault !== null) throw new ConvertError(`${file}: ${fault}`);
  const entries = Object.entries(json as Static<typeof QualityFile>).map(
    ([layer, quality]) => [Number(layer), quality] as const,
  );
  for (const [layer] of entries)
    if (!exits.includes(layer)) throw new UsageError(`${file}: ${layer} is not one of the exits ${exits.join(', ')}`);
  return new Map(entries);
}

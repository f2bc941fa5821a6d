/** Parts of the manifest that an operator states: sampling defaults, measured quality, and the rule against loops. */
import { readFileSync } from 'node:fs';
import { isValid, type Static, Type } from '../util/schema.js';
import { validationMessage } from '../util/validation-message.js';
import { Dry, Generation, Quality } from '../engine/model/manifest.js';
import { ConvertError, UsageError } from './conversion-error.js';
import type { SourceSampling } from './source.js';

/** Names of generation_config.json and of `--generation`, which are those of the API. */
export const GENERATION_FIELDS = {
  temperature: 'temperature',
  top_p: 'topP',
  top_k: 'topK',
  min_p: 'minP',
  repetition_penalty: 'repetitionPenalty',
  max_new_tokens: 'maxTokens',
} as const satisfies Record<string, keyof Generation>;

const RULES: Readonly<Record<keyof Generation, string>> = {
  temperature: 'a number from 0 to 2',
  topP: 'a number above 0 and at most 1',
  topK: 'an integer of at least 0',
  minP: 'a number from 0 to 1',
  repetitionPenalty: 'a number above 0 and at most 2',
  maxTokens: 'an integer from 1 to 1000000',
};

// A misspelt key would leave the router without its figure, so unknown keys are an error.
const QualityFile = Type.Record(
  Type.String({ pattern: '^[1-9][0-9]*$' }),
  Type.Object(Quality.properties, { additionalProperties: false }),
);

/**
 * The sampling defaults of a conversion. An option wins over the source, each field by itself. A value of the source
 * that the server cannot apply becomes a warning.
 * @param stated `--generation`, such as `temperature=0.3,top_p=0.9`
 * @throws UsageError
 */
export function generationOf(
  source: readonly SourceSampling[],
  stated: string | undefined,
  warn: (warning: string) => void,
): Generation {
  const generation: Generation = {};
  for (const { field, origin, value } of source) {
    // -1 turns top_k off, as in vLLM.
    const applied = field === 'topK' && value === -1 ? 0 : value;
    if (isValid(Generation, { [field]: applied })) generation[field] = applied as number;
    else warn(`${origin} is ignored: it must be ${RULES[field]}, got ${JSON.stringify(value)}`);
  }
  for (const part of stated?.split(',') ?? []) {
    const [name = '', text = ''] = part.split('=').map((each) => each.trim());
    if (!isField(name)) {
      const names = Object.keys(GENERATION_FIELDS).join(', ');
      throw new UsageError(`--generation must be a list of name=value with the names ${names}, got ${part}`);
    }
    const field = GENERATION_FIELDS[name];
    const value = text === '' ? NaN : Number(text);
    if (!isValid(Generation, { [field]: value }))
      throw new UsageError(`--generation ${name} must be ${RULES[field]}, got ${text}`);
    generation[field] = value;
  }
  return generation;
}

function isField(name: string): name is keyof typeof GENERATION_FIELDS {
  return Object.hasOwn(GENERATION_FIELDS, name);
}

/**
 * The measured quality of the exits by layer, from JSON such as {"10": {"kl": 1.2, "agreement": 0.55}}.
 * @param file undefined: none was measured
 * @throws ConvertError if the file is malformed, UsageError if it names a layer that is not an exit
 */
export function readQuality(file: string | undefined, exits: readonly number[]): ReadonlyMap<number, Quality> {
  if (file === undefined) return new Map();
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new ConvertError(`cannot read ${file}: ${(cause as Error).message}`);
  }
  const fault = validationMessage(QualityFile, json);
  if (fault !== null) throw new ConvertError(`${file}: ${fault}`);
  const entries = Object.entries(json as Static<typeof QualityFile>);
  const other = entries.find(([layer]) => !exits.includes(Number(layer)));
  if (other !== undefined) throw new UsageError(`${file}: ${other[0]} is not one of the exits ${exits.join(', ')}`);
  return new Map(entries.map(([layer, quality]) => [Number(layer), quality]));
}

/** The manifest's rule against loops. @throws UsageError if the rule is invalid */
export function dryRule(stated: readonly number[] | undefined): Dry | undefined {
  if (stated === undefined) return undefined;
  const [multiplier, base, allowedLength] = stated;
  const rule = { multiplier, base, allowedLength };
  if (stated.length === 3 && isValid(Dry, rule)) return rule;
  const bounds = 'a multiplier from 0 to 100, a base from 1 to 10 and an allowed length from 1 to 64';
  throw new UsageError(`--dry must be ${bounds}, got ${stated.join(',')}`);
}

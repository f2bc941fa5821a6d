/** Sampling defaults of the manifest: from the source, and from `--generation`. */
import { isValid } from '../util/schema.js';
import { Generation } from '../engine/model/manifest.js';
import { UsageError } from './conversion-error.js';
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
  return { ...generation, ...optionOf(stated) };
}

function optionOf(stated: string | undefined): Generation {
  const generation: Generation = {};
  for (const part of stated?.split(',') ?? []) {
    const [name = '', text = ''] = part.split('=').map((each) => each.trim());
    if (!isField(name))
      throw new UsageError(
        `--generation must be a list of name=value with the names ${Object.keys(GENERATION_FIELDS).join(', ')}, got ${part}`,
      );
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

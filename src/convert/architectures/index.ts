/**
 * The table of architectures that the converter reads. To add one:
 *
 * 1. Read the model's own code in transformers, and the class in llama.cpp's conversion.
 * 2. Write a `Family` in a file of this folder: class names, `fromConfig` and `fromMetadata` as changes of `plain.ts`,
 *    and the names of tensors that differ. Fold what weights can take. The graphs follow the manifest's `architecture`,
 *    never a family's name: another difference needs a field there, and its nodes in `src/convert/graphs`.
 * 3. Add the model to `test/golden/architectures/make.py`, with a window or scaling shorter than its prompts. Run it
 *    with the training environment. `test/convert/architectures.test.ts` then compares both formats.
 * 4. Add the row in docs/models.md.
 *
 * Layer i of the block of exit n has the kind of trunk layer n + i.
 */
import { ConvertError } from '../conversion-error.js';
import type { Family } from './description.js';
import { gemma2, gemma3 } from './gemma.js';
import { granite, graniteHybrid } from './granite.js';
import { llama } from './llama.js';
import { ministral3, mistral } from './mistral.js';
import { nanbeige } from './nanbeige.js';
import { olmo2 } from './olmo.js';
import { ouro } from './ouro.js';
import { phi3 } from './phi3.js';
import { qwen2, qwen3 } from './qwen.js';
import { smollm3 } from './smollm3.js';

const FAMILIES: readonly Family[] = [
  llama,
  mistral,
  ministral3,
  qwen2,
  qwen3,
  smollm3,
  granite,
  graniteHybrid,
  phi3,
  olmo2,
  gemma2,
  gemma3,
  ouro,
  nanbeige,
];

/** Classes of models with images; the converter reads their text part, `text_config`. */
const WITH_IMAGES: readonly unknown[] = ['Gemma3ForConditionalGeneration', 'Mistral3ForConditionalGeneration'];

/** Looped classes that the graphs lack a part of. */
const UNBUILT: Readonly<Record<string, string>> = {
  IQuestLoopCoderForCausalLM: 'loops after the first mix in attention over the keys of the first, by gates',
};

/** Whether a config describes a model with images and text. */
export function hasImages(architectures: unknown): boolean {
  return Array.isArray(architectures) && WITH_IMAGES.includes(architectures[0]);
}

/** The family of a class in config.json, or of a `model_type` if the config names no class. */
export function familyOfConfig(architectures: unknown, modelType: unknown, file: string): Family {
  const name = Array.isArray(architectures) ? String(architectures[0]) : null;
  const found = FAMILIES.find(({ classes }) =>
    name === null ? Object.values(classes).includes(String(modelType)) : Object.hasOwn(classes, name),
  );
  if (found) return found;
  const missing = name === null ? undefined : UNBUILT[name];
  if (missing !== undefined) throw new ConvertError(`${file}: ${name} is not supported: ${missing}`);
  const known = FAMILIES.flatMap(({ classes }) => Object.keys(classes));
  throw unknown(file, known, name ?? String(modelType));
}

/** The family of `general.architecture`. */
export function familyOfGguf(name: unknown, file: string): Family {
  const found = FAMILIES.find(({ gguf }) => gguf?.includes(String(name)));
  if (found) return found;
  const known = FAMILIES.flatMap(({ gguf = [] }) => gguf);
  throw unknown(file, known, JSON.stringify(name));
}

function unknown(file: string, known: readonly string[], got: string): ConvertError {
  const rule = `architecture must be one of ${known.join(', ')}, got ${got}`;
  return new ConvertError(`${file}: ${rule}`);
}

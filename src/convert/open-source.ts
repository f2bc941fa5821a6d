/** Opens the source of a conversion by its format. */
import { statSync } from 'node:fs';
import { hubHint } from '../util/hub-name.js';
import { ConvertError, UsageError } from './conversion-error.js';
import { openGguf } from './formats/gguf/source.js';
import { openHuggingFace } from './formats/hf/source.js';
import type { ConvertOptions } from './convert-options.js';
import type { ModelSource } from './source.js';

/** @throws ConvertError if the source cannot be converted, or has a context below the option's */
export function openSource({ source: name, context }: ConvertOptions): ModelSource {
  const stat = statSync(name, { throwIfNoEntry: false });
  if (!stat) throw new ConvertError(`source ${name} does not exist${hubHint(name)}`);
  const source = stat.isDirectory() ? openHuggingFace(name) : openGguf(name);
  if (context === undefined) return source;
  const most = source.architecture.context;
  if (Number.isInteger(context) && context >= 1 && context <= most)
    return { ...source, architecture: { ...source.architecture, context } };
  source.close();
  throw new UsageError(`--context must be an integer from 1 to the source's ${most}, got ${context}`);
}

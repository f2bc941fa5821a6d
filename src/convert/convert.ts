/**
 * The conversion: checks a source model and its options, and writes a model folder. Must not know: file formats,
 * operators.
 */
import { statSync } from 'node:fs';
import { hubHint } from '../util/hub-name.js';
import type { Manifest } from '../engine/model/manifest.js';
import { NO_CALIBRATION, openCalibration } from './calibration.js';
import { checkArchitecture, checkTensors } from './check.js';
import { checkTokenizer } from './check-tokenizer.js';
import { ConvertError, UsageError } from './conversion-error.js';
import { checkOptions, type ConvertOptions } from './convert-options.js';
import { exitsOf, NO_EXIT_BLOCKS, openBlocks } from './exits.js';
import { openGguf } from './formats/gguf/source.js';
import { openHuggingFace } from './formats/hf/source.js';
import { writeFolder } from './output/folder.js';
import { checkPromptExit, checkWideStates, isOwnPart, promptExit, stageEnds } from './prompt-exit.js';
import { generationOf } from './settings.js';
import type { ModelSource } from './source.js';
import { type Progress, writeModel } from './write-model.js';

/**
 * Converts. Throws ConvertError for a fault that the caller can fix, or the abort reason of `options.signal`. The
 * output folder is then unchanged.
 * @param warn receives warnings before the first progress event
 */
export async function convert(
  options: ConvertOptions,
  progress: Progress = () => undefined,
  warn: (warning: string) => void = () => undefined,
): Promise<Manifest> {
  checkOptions(options);
  const { out, force } = options;
  const inputs = [options.source, options.exitBlocks, options.calibration, options.quality].filter(
    (file) => file !== undefined,
  );
  const source = openSource(options);
  let blocks = NO_EXIT_BLOCKS;
  let calibration = NO_CALIBRATION;
  try {
    const { architecture: arch, prompt } = source;
    checkArchitecture(arch);
    const exits = exitsOf(options.exits ?? source.exits, arch);
    checkWideStates(arch, exits, options);
    const ends = stageEnds(exits, promptExit(source));
    checkTensors(source, (layer, part) => prompt !== null && layer >= prompt.exit && isOwnPart(part));
    if (prompt !== null) checkPromptExit(prompt, arch, options);
    const generation = generationOf(source.sampling, options.generation, warn);
    const { leftOut = [] } = source;
    if (leftOut.length > 0) warn(`the model serves text, and leaves out ${leftOut.join(', ')}`);
    for (const warning of checkTokenizer(source.tokenizer, arch.vocab)) warn(warning);
    blocks = openBlocks(options.exitBlocks, exits, source);
    if (options.calibration !== undefined) calibration = openCalibration(options.calibration);
    return await writeFolder({ out, force, inputs }, (folder) =>
      writeModel({ folder, source, exits, ends, blocks, calibration, generation, options, progress }),
    );
  } finally {
    source.close();
    blocks.source.close();
    calibration.close();
  }
}

/** Opens the source of a conversion by its format. @throws ConvertError for one that the converter does not read */
function openSource({ source: name, context }: ConvertOptions): ModelSource {
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

/**
 * The conversion: checks a source model and its options, and writes a model folder. Must not know: file formats,
 * operators.
 */
import type { Manifest } from '../engine/model/manifest.js';
import { NO_CALIBRATION, openCalibration } from './calibration.js';
import { checkArchitecture, checkExits, checkTensors } from './check.js';
import { checkTokenizer } from './check-tokenizer.js';
import { exitBlocksOf, NO_EXIT_BLOCKS, openExitBlocks } from './exit-blocks.js';
import { generationOf } from './generation.js';
import { loopExits, rejectBlocks } from './loops.js';
import { openSource } from './open-source.js';
import { checkOptions, type ConvertOptions } from './convert-options.js';
import { checkPromptExit, isOwnPart, stageEnds } from './prompt-exit.js';
import { writeFolder } from './output/folder.js';
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
    const arch = source.architecture;
    checkArchitecture(arch);
    const asked = options.exits ?? source.exits;
    const exits = arch.loops === undefined ? (asked ?? [arch.layers]) : loopExits(asked, arch);
    if (arch.loops === undefined) checkExits(exits, arch.layers);
    rejectBlocks(arch, options.exitBlocks);
    const { prompt } = source;
    const ends = stageEnds(exits, prompt);
    checkTensors(source, (layer, part) => prompt !== null && layer >= prompt.exit && isOwnPart(part));
    if (prompt !== null) checkPromptExit(prompt, arch, options);
    const generation = generationOf(source.sampling, options.generation, warn);
    for (const warning of checkTokenizer(source.tokenizer, source.architecture.vocab)) warn(warning);
    if (options.exitBlocks !== undefined) blocks = openExitBlocks(options.exitBlocks, exits, source);
    else if (source.ownBlocks !== null)
      blocks = exitBlocksOf({ ...source.ownBlocks, close: () => undefined }, exits, source);
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

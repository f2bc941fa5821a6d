/**
 * Prompt exits (SwiftKV, arXiv 2410.03960): prompt tokens leave the trunk after a layer. The keys and values of the
 * deeper layers follow from the states there, for prompt and answer alike. Tokens of the answer run all layers.
 *
 * Must not know: file formats, operators.
 */
import type { Architecture } from '../engine/model/architecture.js';
import { checkShapes, layerShapes } from './check.js';
import { UsageError } from './conversion-error.js';
import type { ConvertOptions } from './convert-options.js';
import { LAYER, PROMPT_NORM, trunkLayer, type Part, type PromptSource, type Tensors } from './source.js';

const QUERY_PARTS: readonly Part[] = ['q', 'qBias', 'qNorm'];
const KEY_PARTS: readonly Part[] = ['k', 'v', 'kBias', 'vBias', 'kNorm'];

/** Whether a deeper layer has weights of its own for a part behind a prompt exit. */
export function isOwnPart(part: Part): boolean {
  return QUERY_PARTS.includes(part) || KEY_PARTS.includes(part);
}

/** Whether a layer has keys and values of its own behind the exit: the first of each group. */
export function leadsGroup({ exit, group }: Pick<PromptSource, 'exit' | 'group'>, layer: number): boolean {
  return (layer - exit) % group === 0;
}

/**
 * Checks that a prompt exit has its tensors and no others.
 * @throws ConvertError for a tensor, or UsageError for a file that has no values for a prompt exit
 */
export function checkPromptExit(
  prompt: PromptSource,
  arch: Architecture,
  { calibration, exitBlocks }: Pick<ConvertOptions, 'calibration' | 'exitBlocks'>,
): void {
  for (const [option, file] of Object.entries({ '--calibration': calibration, '--exit-blocks': exitBlocks }))
    if (file !== undefined)
      throw new UsageError(
        `${option} must be absent for a model with a prompt exit, for which it has no values, got ${file}`,
      );
  const shapes = new Map([[PROMPT_NORM, [arch.hidden]]]);
  for (let layer = prompt.exit; layer < arch.layers; layer++)
    for (const [part, shape] of layerShapes(arch))
      if (QUERY_PARTS.includes(part) || (KEY_PARTS.includes(part) && leadsGroup(prompt, layer)))
        shapes.set(trunkLayer(layer) + LAYER[part], shape);
  checkShapes(prompt, shapes);
}

/**
 * The layers after which the trunk's stages end. The last stage ends at the prompt exit, where there is one.
 * @param exits those of answers; the last one is full depth
 * @throws UsageError for an early exit that is not below the prompt exit
 */
export function stageEnds(exits: readonly number[], prompt: PromptSource | null): readonly number[] {
  if (prompt === null) return exits;
  const { exit } = prompt;
  const early = exits.slice(0, -1);
  const beyond = early.find((each) => each >= exit);
  if (beyond === undefined) return [...early, exit];
  throw new UsageError(`--exits must lie below the prompt exit, ${exit}, besides the last layer, got ${beyond}`);
}

/** The trunk's weights, with those of a prompt exit in the place of the projections that it replaces. */
export function behindExit(trunk: Pick<Tensors, 'tensor'>, prompt: PromptSource): Pick<Tensors, 'tensor'> {
  const own = [...QUERY_PARTS, ...KEY_PARTS].map((part) => `.${LAYER[part]}`);
  return { tensor: (name) => (own.some((part) => name.endsWith(part)) ? prompt : trunk).tensor(name) };
}

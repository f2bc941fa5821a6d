/**
 * Prompt exits (SwiftKV, arXiv 2410.03960): prompt tokens leave the trunk after a layer. The keys and values of the
 * deeper layers follow from the states there, for prompt and answer alike. Tokens of the answer run all layers.
 *
 * Must not know: file formats, operators.
 */
import { type Architecture, stateWidth } from '../engine/model/architecture.js';
import { checkShapes, layerShapes } from './check.js';
import { UsageError } from './conversion-error.js';
import type { ConvertOptions } from './convert-options.js';
import { LAYER, PROMPT_NORM, trunkLayer } from './source.js';
import type { ModelSource, Part, PromptSource, Tensors } from './source.js';

const QUERY_PARTS: readonly Part[] = ['q', 'qBias', 'qNorm'];
const KEY_PARTS: readonly Part[] = ['k', 'v', 'kBias', 'vBias', 'kNorm'];

/** Whether a deeper layer has weights of its own for a part behind a prompt exit. */
export function isOwnPart(part: Part): boolean {
  return QUERY_PARTS.includes(part) || KEY_PARTS.includes(part);
}

/** Layers that prompt tokens run: up to SwiftKV's exit, or to the last layer that makes keys; null: all of them. */
export function promptExit({ prompt, architecture }: Pick<ModelSource, 'prompt' | 'architecture'>): number | null {
  return prompt?.exit ?? architecture.sharing?.first ?? null;
}

/** Whether a layer has keys and values of its own behind the exit: the first of each group. */
function leadsGroup({ exit, group }: Pick<PromptSource, 'exit' | 'group'>, layer: number): boolean {
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

/** @throws UsageError for an option that normed values, or states wider than the residual stream, rule out */
export function checkWideStates(arch: Architecture, exits: readonly number[], options: ConvertOptions): void {
  const isWide = stateWidth(arch) > arch.hidden;
  const { calibration, exitBlocks, kv, compress } = options;
  const rule = (isKept: boolean, name: string, got: unknown, text = 'absent'): void => {
    if (isKept) return;
    const parts = isWide ? 'inputs of each layer or shared keys' : 'norms of values';
    throw new UsageError(`${name} must be ${text} for a model with ${parts}, got ${String(got)}`);
  };
  const isPlain = !isWide && !arch.valueNorm;
  rule(!isWide || exits.length === 1, '--exits', exits.join(','), `the last layer, ${arch.layers}, alone`);
  rule(isPlain || kv !== 'int8', '--kv', kv, 'float');
  rule(isPlain || calibration === undefined, '--calibration', calibration);
  rule(!isWide || exitBlocks === undefined, '--exit-blocks', exitBlocks);
  // The table of the inputs stays in the file.
  rule(arch.perLayer === undefined || !compress, '--compress', compress);
}

/**
 * The layers after which the trunk's stages end. The last stage ends at the prompt exit, where there is one.
 * @param exits those of answers; the last one is full depth
 * @param exit layers that prompt tokens run; null: all of them
 * @throws UsageError for an early exit that is not below the prompt exit
 */
export function stageEnds(exits: readonly number[], exit: number | null): readonly number[] {
  if (exit === null) return exits;
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

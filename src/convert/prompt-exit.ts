/**
 * Prompt exits (SwiftKV, arXiv 2410.03960): prompt tokens leave the trunk after a layer. The keys and values of the
 * deeper layers follow from the states there, for prompt and answer alike. Tokens of the answer run all layers.
 *
 * Must not know: file formats, operators.
 */
import type { Architecture } from '../model/architecture.js';
import { checkNoOthers, checkTensor, layerShapes } from './check.js';
import { ConvertError } from './conversion-error.js';
import type { ConvertOptions, Mode } from './convert-options.js';
import { gpuKernel } from '../model/manifest.js';
import type { ModelSource, PromptSource } from './source.js';
import { LAYER, PROMPT_NORM, trunkLayer, type Part, type Tensors } from './tensors.js';

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
 * The modes of a conversion.
 * @throws ConvertError bad_option for a mode that the source lacks, or that an option does not allow
 */
export function modesOf(
  { modes, kernels, calibration, exitBlocks }: ConvertOptions,
  { prompt }: Pick<ModelSource, 'prompt'>,
): Mode {
  const mode = modes ?? (prompt === null ? 'full' : 'prompt');
  const fault = (rule: string): ConvertError => new ConvertError('bad_option', `--modes ${rule}, got ${mode}`);
  if (mode === 'prompt' && prompt === null)
    throw fault('must be full for a model whose class has no prompt exit (LlamaSwiftKVForCausalLM and its twins)');
  if (mode === 'full' && prompt?.hasFull === false)
    throw fault("must be prompt for a source without the trunk's own projections behind the prompt exit");
  if (mode === 'full') return mode;
  const gpu = gpuKernel(kernels);
  if (gpu !== undefined) throw fault(`must be full with --kernels ${gpu}, since prompt exits run on CPUs`);
  for (const [option, file] of [
    ['--calibration', calibration],
    ['--exit-blocks', exitBlocks],
  ])
    if (file !== undefined) throw fault(`must be full with ${option}, which has no values for a prompt exit`);
  return mode;
}

/** Checks that a prompt exit has its tensors and no others. */
export function checkPromptExit(prompt: PromptSource, arch: Architecture): void {
  checkTensor(prompt, PROMPT_NORM, [arch.hidden]);
  const shapes = layerShapes(arch);
  const known = new Set([PROMPT_NORM]);
  for (let layer = prompt.exit; layer < arch.layers; layer++)
    for (const [part, shape] of shapes) {
      const isOwn = QUERY_PARTS.includes(part) || (KEY_PARTS.includes(part) && leadsGroup(prompt, layer));
      if (!isOwn) continue;
      const name = trunkLayer(layer) + LAYER[part];
      checkTensor(prompt, name, shape);
      known.add(name);
    }
  checkNoOthers(prompt.names, known);
}

/**
 * The layers after which the trunk's stages end.
 * @param exits those of answers; the last one is full depth
 * @throws ConvertError bad_exits for an exit between the prompt exit and full depth
 */
export function stageEnds(exits: readonly number[], prompt: PromptSource | null): readonly number[] {
  if (prompt === null) return exits;
  const early = exits.slice(0, -1);
  const beyond = early.find((exit) => exit >= prompt.exit);
  if (beyond !== undefined)
    throw new ConvertError(
      'bad_exits',
      `--exits with --modes prompt must lie below the prompt exit, ${prompt.exit}, besides the last layer, got ${beyond}`,
    );
  return [...early, prompt.exit];
}

/** The trunk's weights, with those of the prompt exit in the place of the projections that it replaces. */
export function behindExit(trunk: Pick<Tensors, 'tensor'>, prompt: PromptSource): Pick<Tensors, 'tensor'> {
  const own = [...QUERY_PARTS, ...KEY_PARTS].map((part) => `.${LAYER[part]}`);
  return { tensor: (name) => (own.some((part) => name.endsWith(part)) ? prompt : trunk).tensor(name) };
}

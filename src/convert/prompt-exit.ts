/**
 * Prompt exits (SwiftKV, arXiv 2410.03960): prompt tokens leave the trunk after a layer. The keys and values of the
 * deeper layers follow from the states there, for prompt and answer alike. Tokens of the answer run all layers. An exit
 * of keys alone leaves the answer's layers those of the trunk, with keys and values of their own.
 *
 * Must not know: file formats, operators.
 */
import type { Architecture } from '../engine/model/architecture.js';
import { checkNoOthers, checkTensor, layerShapes } from './check.js';
import { ConvertError } from './conversion-error.js';
import type { ConvertOptions, Mode } from './convert-options.js';
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
  { modes, calibration, exitBlocks }: ConvertOptions,
  { prompt }: Pick<ModelSource, 'prompt'>,
): readonly Mode[] {
  const all: readonly Mode[] = prompt?.hasFull === false ? ['prompt'] : prompt === null ? ['full'] : ['full', 'prompt'];
  const asked = modes ?? all;
  const fault = (rule: string): ConvertError =>
    new ConvertError('bad_option', `--modes ${rule}, got ${asked.join(',')}`);
  if (asked.length === 0 || new Set(asked).size < asked.length) throw fault('must be full, prompt or full,prompt');
  if (prompt === null && asked.includes('prompt'))
    throw fault('must be full for a model whose class has no prompt exit (LlamaSwiftKVForCausalLM and its twins)');
  if (!all.includes('full') && asked.includes('full'))
    throw fault("must be prompt for a source without the trunk's own projections behind the prompt exit");
  if (!asked.includes('prompt')) return asked;
  for (const [option, file] of [
    ['--calibration', calibration],
    ['--exit-blocks', exitBlocks],
  ])
    if (file !== undefined) throw fault(`must be full with ${option}, which has no values for a prompt exit`);
  return asked;
}

/** The parts of a deeper layer that a prompt exit has of its own. */
function ownParts(prompt: PromptSource, layer: number): readonly Part[] {
  const queries = prompt.answers === 'exit' ? QUERY_PARTS : [];
  return leadsGroup(prompt, layer) ? [...queries, ...KEY_PARTS] : queries;
}

/** Checks that a prompt exit has its tensors and no others. */
export function checkPromptExit(prompt: PromptSource, arch: Architecture): void {
  checkTensor(prompt, PROMPT_NORM, [arch.hidden]);
  const shapes = layerShapes(arch);
  const known = new Set([PROMPT_NORM]);
  for (let layer = prompt.exit; layer < arch.layers; layer++)
    for (const [part, shape] of shapes) {
      if (!ownParts(prompt, layer).includes(part)) continue;
      const name = trunkLayer(layer) + LAYER[part];
      checkTensor(prompt, name, shape);
      known.add(name);
    }
  checkNoOthers(prompt.names, known);
}

/** The depths of prompts in a folder. */
export interface PromptDepths {
  /** Null: all prompts run all layers. */
  readonly prompt: PromptSource | null;
  /** Whether requests may choose full depth. */
  readonly hasFull: boolean;
}

/** The layers after which the trunk's stages end, and the index of the stage that ends at the prompt exit. */
export interface StageEnds {
  readonly ends: readonly number[];
  /** -1 without a prompt exit. */
  readonly promptStage: number;
}

/**
 * @param exits those of answers; the last one is full depth
 * @throws ConvertError bad_exits for an exit behind the only depth of prompts
 */
export function stageEnds(exits: readonly number[], { prompt, hasFull }: PromptDepths): StageEnds {
  if (prompt === null) return { ends: exits, promptStage: -1 };
  const { exit } = prompt;
  const early = exits.slice(0, -1);
  const beyond = early.find((each) => each >= exit);
  if (!hasFull && beyond !== undefined)
    throw new ConvertError(
      'bad_exits',
      `--exits with --modes prompt must lie below the prompt exit, ${exit}, besides the last layer, got ${beyond}`,
    );
  const ends = [...new Set([...early, exit, ...(hasFull ? exits.slice(-1) : [])])].sort((a, b) => a - b);
  return { ends, promptStage: ends.indexOf(exit) };
}

/** The trunk's weights, with those of a prompt exit in the place of the projections that it replaces. */
export function behindExit(trunk: Pick<Tensors, 'tensor'>, prompt: PromptSource | null): Pick<Tensors, 'tensor'> {
  if (prompt === null) return trunk;
  const own = [...QUERY_PARTS, ...KEY_PARTS].map((part) => `.${LAYER[part]}`);
  return { tensor: (name) => (own.some((part) => name.endsWith(part)) ? prompt : trunk).tensor(name) };
}

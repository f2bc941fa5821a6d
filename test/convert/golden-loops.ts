/** The looped models of test/golden/loops, whose golden numbers the public modeling file of Ouro computed. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { GoldenModel, GoldenPrompt, TopLogits } from './golden-model.js';
import type { LoopShape } from './reference.js';

export interface GoldenLoops extends Omit<GoldenModel, 'prompts'> {
  /** By loop: the highest logits, and the gate in front of its sigmoid. */
  readonly prompts: readonly GoldenPrompt<{ readonly loops: readonly (TopLogits & { readonly gate: number })[] }>[];
}

const here = fileURLToPath(new URL('../../../test/golden/loops/', import.meta.url));

export const LOOP_MODELS = ['ouro-1', 'ouro-2', 'ouro-4', 'ouro-4-tied'] as const;

export function goldenLoops(name: (typeof LOOP_MODELS)[number]): GoldenLoops {
  return JSON.parse(readFileSync(path.join(here, `${name}.json`), 'utf8')) as GoldenLoops;
}

export function loopShape({ config }: GoldenLoops): LoopShape {
  const heads = Number(config.num_attention_heads);
  return {
    layers: Number(config.num_hidden_layers),
    loops: Number(config.total_ut_steps),
    heads,
    kvHeads: Number(config.num_key_value_heads),
    headDim: Number(config.hidden_size) / heads,
    theta: Number(config.rope_theta),
    eps: Number(config.rms_norm_eps),
    betweenLoops: true,
  };
}

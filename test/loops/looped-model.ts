/**
 * A random looped model with the tokenizer and the template of the embedded model, and four loops. Suites of the embedded
 * model run with it.
 */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { convert } from '../../src/convert/convert.js';
import { EMBEDDED_MODEL } from '../../src/cli/options/config.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { random, safetensors, type Weight, type Weights } from '../convert/tiny.js';

const SIZES = { hidden: 64, heads: 4, kvHeads: 2, headDim: 16, ffn: 96, context: 2048 };
export const LOOPS = 4;

/** Random weights by Hugging Face's names, with norms around 1. */
function weightsOf(vocab: number, layers: number): Weights {
  const next = random(48);
  const { hidden, heads, kvHeads, headDim, ffn } = SIZES;
  const weights: Weights = new Map();
  const add = (name: string, shape: number[], around = 0): void => {
    const length = shape.reduce((a, b) => a * b);
    const data = Float32Array.from({ length }, () => around + Math.round(next() * 32) / 128);
    weights.set(name, { shape, data } satisfies Weight);
  };
  add('model.embed_tokens.weight', [vocab, hidden]);
  // Logits of 10 leave few near-ties.
  add('model.norm.weight', [hidden], 12);
  add('model.early_exit_gate.weight', [1, hidden]);
  add('model.early_exit_gate.bias', [1]);
  for (let layer = 0; layer < layers; layer++) {
    const at = (part: string): string => `model.layers.${layer}.${part}.weight`;
    for (const norm of [
      'input_layernorm',
      'input_layernorm_2',
      'post_attention_layernorm',
      'post_attention_layernorm_2',
    ])
      add(at(norm), [hidden], 1);
    add(at('self_attn.q_proj'), [heads * headDim, hidden]);
    add(at('self_attn.k_proj'), [kvHeads * headDim, hidden]);
    add(at('self_attn.v_proj'), [kvHeads * headDim, hidden]);
    add(at('self_attn.o_proj'), [hidden, heads * headDim]);
    add(at('mlp.gate_proj'), [ffn, hidden]);
    add(at('mlp.up_proj'), [ffn, hidden]);
    add(at('mlp.down_proj'), [hidden, ffn]);
  }
  return weights;
}

/**
 * Writes the source and converts it with all loops as exits.
 * @param layers of a loop
 * @returns the model folder, within `dir`
 */
export async function loopedModel(
  dir: string,
  layers: number,
  kernels: readonly KernelName[] = ['fp32'],
): Promise<string> {
  const embedded = loadManifest(EMBEDDED_MODEL);
  const source = path.join(dir, 'looped-source');
  mkdirSync(source, { recursive: true });
  const [eos = 0] = embedded.eosTokens;
  const config = {
    architectures: ['OuroForCausalLM'],
    model_type: 'ouro',
    num_hidden_layers: layers,
    total_ut_steps: LOOPS,
    hidden_size: SIZES.hidden,
    num_attention_heads: SIZES.heads,
    num_key_value_heads: SIZES.kvHeads,
    head_dim: SIZES.headDim,
    intermediate_size: SIZES.ffn,
    vocab_size: embedded.architecture.vocab,
    max_position_embeddings: SIZES.context,
    rope_theta: 10000,
    tie_word_embeddings: true,
    eos_token_id: eos,
  };
  writeFileSync(path.join(source, 'config.json'), JSON.stringify(config));
  writeFileSync(path.join(source, 'model.safetensors'), safetensors(weightsOf(embedded.architecture.vocab, layers)));
  copyFileSync(path.join(EMBEDDED_MODEL, embedded.tokenizer), path.join(source, 'tokenizer.json'));
  if (embedded.chatTemplate !== null)
    copyFileSync(path.join(EMBEDDED_MODEL, embedded.chatTemplate), path.join(source, 'chat_template.jinja'));
  const out = path.join(dir, 'looped');
  await convert({ source, out, kernels, compress: false, force: true });
  return out;
}

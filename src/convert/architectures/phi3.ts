/** Phi-3, Phi-3.5, Phi-4 and their mini models: packed projections, part of each head rotates, longrope. */
import type { Architecture } from '../../engine/model/architecture.js';
import type { Differences, Family } from './description.js';
import { windowed } from './layer-types.js';
import { plainConfig, plainMetadata } from './plain.js';
import { ropeFields } from './rotary.js';

export const phi3: Family = {
  classes: { Phi3ForCausalLM: 'phi3' },
  gguf: ['phi3'],
  fromConfig(config) {
    const rope = ropeFields(config);
    const partial = rope.number('partial_rotary_factor', config.number('partial_rotary_factor', 1));
    return windowed(plainConfig(config, { partial }), config.optional('sliding_window'));
  },
  fromMetadata: (metadata) => windowed(plainMetadata(metadata), metadata.fields.optional('attention.sliding_window')),
  tensors: (arch) => packed(arch, 'self_attn.qkv_proj.weight', 'mlp.gate_up_proj.weight'),
  ggufTensors: (arch) => packed(arch, 'attn_qkv.weight', 'ffn_up.weight'),
};

function packed({ heads, kvHeads, headDim, ffn }: Architecture, qkv: string, gateUp: string): Differences {
  const q = heads * headDim;
  const kv = kvHeads * headDim;
  const of = q + 2 * kv;
  return {
    q: { stored: qkv, rows: { start: 0, count: q, of } },
    k: { stored: qkv, rows: { start: q, count: kv, of } },
    v: { stored: qkv, rows: { start: q + kv, count: kv, of } },
    gate: { stored: gateUp, rows: { start: 0, count: ffn, of: 2 * ffn } },
    up: { stored: gateUp, rows: { start: ffn, count: ffn, of: 2 * ffn } },
  };
}

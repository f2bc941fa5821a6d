/**
 * Ouro: one block of layers that runs `total_ut_steps` times. The shared norm ends every loop, and a gate reads the
 * normed states. Norms stand around attention and around the MLP.
 */
import type { Family } from './description.js';
import { loopsOf, loopsOfMetadata } from './loops.js';
import { changed, plainConfig, plainMetadata } from './plain.js';
import { withDeepWindows } from './qwen.js';

export const ouro: Family = {
  classes: { OuroForCausalLM: 'ouro' },
  defaults: { total_ut_steps: 4 },
  gguf: ['ouro'],
  fromConfig(config) {
    const loops = loopsOf(config, 'total_ut_steps', 'final');
    return withDeepWindows(changed(plainConfig(config), { norms: 'both', loops }), config);
  },
  // The keys of llama.cpp's pull request 29823, which leaves out the gate.
  fromMetadata: (metadata) =>
    changed(plainMetadata(metadata), { norms: 'both', loops: loopsOfMetadata(metadata.fields) }),
  tensors: () => ({
    attnOutNorm: { stored: 'input_layernorm_2.weight' },
    mlpOutNorm: { stored: 'post_attention_layernorm_2.weight' },
  }),
  alternates: true,
  gate: 'model.early_exit_gate',
  // Ouro-1.4B on GSM8K, loops 1 to 4: .203, .635, .759, .790 (JunYoungLee/ut-depth-probe-artifacts on Hugging Face).
  loopAccuracy: [0.26, 0.8, 0.96, 1],
};

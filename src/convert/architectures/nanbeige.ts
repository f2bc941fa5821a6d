/** Nanbeige 4.2: the layers of a Llama, `num_loops` times, with the shared norm between loops. */
import type { Family } from './description.js';
import { loopsOf, loopsOfMetadata } from './loops.js';
import { changed, plainConfig, plainMetadata } from './plain.js';

/** Parts of the class that its published checkpoint leaves out. */
const ABSENT = [
  'qk_layernorm',
  'emb_neighbor_num',
  'insert_ngram_layer_idx',
  'ngram_insert_all_layers',
  'enable_double_loop_split',
  'loop_middle_layers',
  'loop_share_kv',
  'enable_hyper_connection',
  'enable_mhc',
  'enable_h_res_identity',
  'enable_depth_attention',
];

export const nanbeige: Family = {
  classes: { NanbeigeForCausalLM: 'nanbeige' },
  gguf: ['nanbeige'],
  fromConfig(config) {
    for (const key of ABSENT) {
      const value = config.get(key);
      const isAbsent = value === undefined || value === false || (Array.isArray(value) && value.length === 0);
      if (!isAbsent) throw config.fault(key, 'absent or false');
    }
    const loops = loopsOf(config, 'num_loops', config.flag('skip_loop_final_norm') ? 'none' : 'final');
    return changed(plainConfig(config), { loops });
  },
  fromMetadata: (metadata) => changed(plainMetadata(metadata), { loops: loopsOfMetadata(metadata.fields) }),
  alternates: true,
  // One loop has no published figure, so the scheduler does not choose it.
  loopAccuracy: [0, 1],
};

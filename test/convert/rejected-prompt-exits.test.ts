/** Faulty models with a prompt exit: each gives one error that names the field, and leaves no output. */
import path from 'node:path';
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { promptModel, writePromptModel } from './prompt-models.js';
import { rejects, type Case } from './rejected.js';
import { safetensors, type Weights } from './tiny.js';

const model = promptModel('Llama', { layers: 4, exit: 2, group: 2 });

/** A source with changes of its fields or weights. */
function folder(changes: Record<string, unknown> = {}, change: (weights: Weights) => void = () => undefined) {
  return (dir: string): string => {
    const weights = new Map(model.weights);
    change(weights);
    return writePromptModel(dir, { ...model, weights }, changes);
  };
}

/** A safetensors file whose tensors all claim to be in FP8. */
function inFp8(dir: string): string {
  const source = folder()(dir);
  const file = safetensors(model.weights, 'F16').toString('latin1').replaceAll('"F16"', '"F8_E4M3"');
  writeFileSync(path.join(source, 'model.safetensors'), padded(file), 'latin1');
  return source;
}

/** The file with the length of its changed header, and with a byte for each value. */
function padded(file: string): string {
  const start = file.indexOf('{');
  const end = file.lastIndexOf('}}') + 2;
  const header = JSON.parse(file.slice(start, end)) as Record<string, { shape: number[]; data_offsets: number[] }>;
  let at = 0;
  for (const entry of Object.values(header)) {
    const size = entry.shape.reduce((a, b) => a * b);
    entry.data_offsets = [at, (at += size)];
  }
  const text = JSON.stringify(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return length.toString('latin1') + text + '\0'.repeat(at);
}

const exits = { exits: [4] };
const at = 'model.layers.3.self_attn.q_proj_swiftkv.weight';

void t.test('models with a faulty prompt exit are rejected', (t) =>
  rejects(t, [
    ...[0, 5, 1.5, -1].map((layers): Case => [
      /config\.json: num_key_value_layers must be an integer from 1 to 4, got /,
      folder({ num_key_value_layers: layers }),
      exits,
    ]),
    [
      /config\.json: num_key_value_layers must be a number, got nothing/,
      folder({ num_key_value_layers: undefined }),
      exits,
    ],
    [
      /config\.json: key_value_group_size must be an integer from 1 to 4, got 0/,
      folder({ key_value_group_size: 0 }),
      exits,
    ],
    [
      /config\.json: kv_sharing_map must be absent or empty .*, got \{"3":1\}/,
      folder({ kv_sharing_map: { 3: 1 } }),
      exits,
    ],
    [
      /config\.json: quantization_config must be absent \(FP8 is not read; .*\), got \{"quant_method":"fbgemm_fp8"\}/,
      folder({ quantization_config: { quant_method: 'fbgemm_fp8' } }),
      exits,
    ],
    [/tensor model\..* has dtype F8_E4M3; supported: F32, F16, BF16/, inFp8, exits],
    [
      /no tensor for model\.layers\.3\.self_attn\.q_proj\.weight behind its prompt exit/,
      folder({}, (weights) => weights.delete(at)),
      exits,
    ],
    [
      /no tensor for model\.norm_swiftkv\.weight/,
      folder({}, (weights) => weights.delete('model.norm_swiftkv.weight')),
      exits,
    ],
    [
      /tensor model\.layers\.3\.self_attn\.q_proj_swiftkv\.weight must have shape \[64, 64\], got \[64\]/,
      folder({}, (weights) => weights.set(at, { shape: [64], data: new Float32Array(64) })),
      exits,
    ],
    [
      /tensors must be those of the architecture .*, got model\.layers\.3\.self_attn\.k_proj\.weight/,
      folder({}, (weights) =>
        weights.set('model.layers.3.self_attn.k_proj_swiftkv.weight', {
          shape: [32, 64],
          data: new Float32Array(2048),
        }),
      ),
      exits,
    ],
    [
      /architecture must be one of .*LlamaSwiftKVForCausalLM.*, got DeepseekV2SwiftKVForCausalLM/,
      folder({ architectures: ['DeepseekV2SwiftKVForCausalLM'] }),
      exits,
    ],
  ]),
);

void t.test('options that a prompt exit does not allow are rejected', (t) =>
  rejects(
    t,
    [
      [/--exits must lie below the prompt exit, 2, besides the last layer, got 3/, folder(), { exits: [1, 3, 4] }],
      [
        /--calibration must be absent for a model with a prompt exit, .*, got c\.safetensors/,
        folder(),
        {
          ...exits,
          kernels: ['w8a8'],
          calibration: 'c.safetensors',
        },
      ],
      [
        /--exit-blocks must be absent for a model with a prompt exit, .*, got b\.safetensors/,
        folder(),
        { exits: [1, 4], exitBlocks: 'b.safetensors' },
      ],
    ],
    true,
  ),
);

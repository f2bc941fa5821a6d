/** Source models of real shapes with random weights, for speed and memory. Their answers mean nothing. */
import { closeSync, copyFileSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Sizes of a layer. */
interface LayerSize {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffn: number;
}

interface Shape extends LayerSize {
  readonly layers: number;
  /** Times that Ouro's class runs the layers; absent for a Llama. */
  readonly loops?: number;
}

/** Shapes of SmolLM2 135M, Llama 3.2 1B, Mistral 7B and a small Ouro, all with the tokenizer of the first. */
export const SHAPES = {
  '135m': { layers: 30, hidden: 576, heads: 9, kvHeads: 3, headDim: 64, ffn: 1536 },
  '1b': { layers: 16, hidden: 2048, heads: 32, kvHeads: 8, headDim: 64, ffn: 8192 },
  '7b': { layers: 32, hidden: 4096, heads: 32, kvHeads: 8, headDim: 128, ffn: 14336 },
  looped: { layers: 8, hidden: 576, heads: 9, kvHeads: 9, headDim: 64, ffn: 1536, loops: 4 },
} as const satisfies Record<string, Shape>;

export type ShapeName = keyof typeof SHAPES;

const VOCAB = 49_152;
const CONTEXT = 8192;
const BLOCK = 2 ** 21;
const ONE = 0x3f80;

/** Writes a Hugging Face folder in bfloat16. @param tokenizer a folder with tokenizer.json and a template */
export function writeSource(out: string, name: ShapeName, tokenizer: string): void {
  const shape = SHAPES[name];
  mkdirSync(out, { recursive: true });
  for (const file of ['tokenizer.json', 'chat_template.jinja']) copyFileSync(join(tokenizer, file), join(out, file));
  // Other servers read the class of the tokenizer here.
  writeFileSync(join(out, 'tokenizer_config.json'), JSON.stringify({ tokenizer_class: 'PreTrainedTokenizerFast' }));
  writeFileSync(join(out, 'config.json'), JSON.stringify(config(shape)));
  const tensors = tensorsOf(shape);
  const entries: Record<string, unknown> = {};
  let end = 0;
  for (const [tensor, dims] of tensors) {
    const start = end;
    end += 2 * elements(dims);
    entries[tensor] = { dtype: 'BF16', shape: dims, data_offsets: [start, end] };
  }
  const header = Buffer.from(JSON.stringify(entries));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.byteLength));
  const file = openSync(join(out, 'model.safetensors'), 'w');
  try {
    writeSync(file, length);
    writeSync(file, header);
    const weights = Buffer.from(randomBlock().buffer);
    const ones = Buffer.from(new Uint16Array(BLOCK).fill(ONE).buffer);
    for (const [, dims] of tensors) {
      const source = dims.length === 1 ? ones : weights;
      for (let left = 2 * elements(dims); left > 0; left -= source.byteLength)
        writeSync(file, source, 0, Math.min(left, source.byteLength));
    }
  } finally {
    closeSync(file);
  }
}

/** Uniform weights of about the size of a real model's, repeated in every tensor: products cost the same. */
function randomBlock(): Uint16Array {
  const values = new Float32Array(BLOCK);
  let state = 1;
  for (let i = 0; i < BLOCK; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state / 2 ** 32 - 0.5) * 0.07;
  }
  return Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
}

const elements = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);

/** Hugging Face's names and shapes of a layer. */
export function layerShapes({ hidden, heads, kvHeads, headDim, ffn }: LayerSize): [string, number[]][] {
  return [
    ['input_layernorm.weight', [hidden]],
    ['self_attn.q_proj.weight', [heads * headDim, hidden]],
    ['self_attn.k_proj.weight', [kvHeads * headDim, hidden]],
    ['self_attn.v_proj.weight', [kvHeads * headDim, hidden]],
    ['self_attn.o_proj.weight', [hidden, heads * headDim]],
    ['post_attention_layernorm.weight', [hidden]],
    ['mlp.gate_proj.weight', [ffn, hidden]],
    ['mlp.up_proj.weight', [ffn, hidden]],
    ['mlp.down_proj.weight', [hidden, ffn]],
  ];
}

/** Ouro's further norms of a layer. */
const outNorms = ({ hidden }: LayerSize): [string, number[]][] => [
  ['input_layernorm_2.weight', [hidden]],
  ['post_attention_layernorm_2.weight', [hidden]],
];

function tensorsOf(shape: Shape): [string, number[]][] {
  const isLooped = shape.loops !== undefined;
  const layer = [...layerShapes(shape), ...(isLooped ? outNorms(shape) : [])];
  const gate: [string, number[]][] = [
    ['model.early_exit_gate.weight', [1, shape.hidden]],
    ['model.early_exit_gate.bias', [1]],
  ];
  return [
    ['model.embed_tokens.weight', [VOCAB, shape.hidden]],
    ['model.norm.weight', [shape.hidden]],
    ...(isLooped ? gate : []),
    ...Array.from({ length: shape.layers }, (_, i) =>
      layer.map(([tensor, dims]): [string, number[]] => [`model.layers.${i}.${tensor}`, dims]),
    ).flat(),
  ];
}

function config({ layers, hidden, heads, kvHeads, headDim, ffn, loops }: Shape): Record<string, unknown> {
  return {
    ...(loops === undefined
      ? { architectures: ['LlamaForCausalLM'], model_type: 'llama' }
      : { architectures: ['OuroForCausalLM'], model_type: 'ouro', total_ut_steps: loops }),
    num_hidden_layers: layers,
    hidden_size: hidden,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    intermediate_size: ffn,
    vocab_size: VOCAB,
    max_position_embeddings: CONTEXT,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    bos_token_id: 0,
    eos_token_id: 0,
    torch_dtype: 'bfloat16',
  };
}

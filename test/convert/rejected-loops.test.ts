/** Faulty looped models: each gives one error that names the field, and leaves no output. */
import path from 'node:path';
import t from 'tap';
import { goldenLoops, loopWeights } from './golden-loops.js';
import { writeGoldenFolder } from './golden-model.js';
import { rejects, write, type Case } from './rejected.js';
import { gguf, ggufMetadata, tinyWeights, type GgufMetadata, type Weights } from './tiny.js';

const model = goldenLoops('ouro-4');

function folder(
  dir: string,
  changes: Record<string, unknown> = {},
  change: (weights: Weights) => void = () => undefined,
) {
  const weights = loopWeights(model);
  change(weights);
  return writeGoldenFolder(path.join(dir, 'hf'), { ...model, prompts: [] }, changes, weights);
}

/** A GGUF file of a tiny Llama that says it is another architecture. */
function file(dir: string, architecture: string, more: GgufMetadata): string {
  const metadata = Object.entries(ggufMetadata()).map(([key, value]) => [
    key.replace(/^llama\./, `${architecture}.`),
    value,
  ]);
  const all = { ...(Object.fromEntries(metadata) as GgufMetadata), 'general.architecture': architecture, ...more };
  return write(dir, 'x.gguf', gguf(tinyWeights(1), all));
}

const base = { exits: [1, 2] };

void t.test('looped models with a fault are rejected', (t) =>
  rejects(t, [
    ...[0, 2.5, -1, 1e9].map((loops): Case => [
      /config\.json: total_ut_steps must be an integer from 1 to 64, got /,
      (dir) => folder(dir, { total_ut_steps: loops }),
      base,
    ]),
    [
      /config\.json: total_ut_steps must be a number, got "four"/,
      (dir) => folder(dir, { total_ut_steps: 'four' }),
      base,
    ],
    [
      /has no tensor model\.early_exit_gate\.weight/,
      (dir) => folder(dir, {}, (weights) => weights.delete('model.early_exit_gate.weight')),
      base,
    ],
    [
      /tensor model\.early_exit_gate\.weight must have shape \[1, 64\], got \[64\]/,
      (dir) =>
        folder(dir, {}, (weights) =>
          weights.set('model.early_exit_gate.weight', { shape: [64], data: new Float32Array(64) }),
        ),
      base,
    ],
    [
      /the source has no tensor|has no tensor model\.layers\.0\.input_layernorm_2\.weight/,
      (dir) =>
        folder(dir, {}, (weights) => {
          for (const name of [...weights.keys()]) if (name.includes('norm_2')) weights.delete(name);
        }),
      base,
    ],
    [
      /tensors must be those of the architecture .*, got model\.layers\.0\.input_layernorm_2\.weight/,
      (dir) => folder(dir, { architectures: ['LlamaForCausalLM'] }),
      base,
    ],
    ...['ouro', 'nanbeige'].map((name): Case => [
      new RegExp(`metadata ${name}\\.num_loops must be a number, got nothing`),
      (dir) => file(dir, name, {}),
      base,
    ]),
    [
      /config\.json: IQuestLoopCoderForCausalLM is not supported: loops after the first mix in attention over/,
      (dir) => folder(dir, { architectures: ['IQuestLoopCoderForCausalLM'] }),
      base,
    ],
    [
      /config\.json: loop_share_kv must be absent or false, got true/,
      (dir) => folder(dir, { architectures: ['NanbeigeForCausalLM'], num_loops: 2, loop_share_kv: true }),
      base,
    ],
  ]),
);

void t.test('options that a looped model lacks are rejected', (t) =>
  rejects(
    t,
    [
      [
        /--exits of a looped model must be at most its 4 loops \(total_ut_steps or num_loops\), got 5/,
        folder,
        { exits: [1, 2, 3, 4, 5] },
      ],
      ...[[2, 4], [0], [2, 1], []].map((exits): Case => [
        /--exits of a looped model must be its loops from 1 on without a gap, such as 1,2, got /,
        folder,
        { exits },
      ]),
      [/--exit-blocks can't be combined with a looped model/, folder, { ...base, exitBlocks: 'blocks.safetensors' }],
    ],
    true,
  ),
);

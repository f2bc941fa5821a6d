/**
 * The manifest of a model folder. The converter writes it; engine, router and gateway read it.
 *
 * Graph contract for every device. FLOAT is f32 for CPU kernels and f16 for those of GPUs. KV is FLOAT, or i8 with a
 * scale per channel inside the graph (kvType).
 *
 * - embed   ids i64 [B,S] -> hidden FLOAT [B,S,H]
 * - stage   hidden FLOAT [B,S,H], seqlens_k i32 [B], total_len i32 [1], past_k_I, past_v_I KV [B,KV,capacity,D]
 *           -> hidden_out FLOAT [B,S,H], present_k_I, present_v_I KV [B,KV,capacity,D]
 * - keys    hidden FLOAT [1,S,H], position i64 [1] -> key_I, value_I FLOAT [1,KV,S,D]
 * - head    hidden FLOAT [N,H], norm i64 [N] -> logits f32 [N,V]
 * - select  logits f32 [N,V], inv_temperature f32 [N,1], targets i64 [N,1]
 *           -> top_values f32 [N,K], top_ids i64 [N,K], lse f32 [N,1], lse_t f32 [N,1], target_values f32 [N,1]
 * - argmax  logits f32 [N,V] -> ids i64 [N]
 *
 * - seqlens_k is the length of each row minus 1, positions of this call included. total_len is the longest length.
 * - Stages of a looped model (`architecture.loops`) name one graph, which runs with the KV cache of the loop. If a norm
 *   ends the loops, hidden_out has it, and the head has none.
 * - H is the width of a state (`stateWidth`): the head reads the hidden values alone, which are the first ones.
 * - I counts the layers of the stage from 0. past and present are bound to the same memory.
 * - A unit with `prompt` has a keys graph too: what the positions from `position` on add to its KV caches. Its stage
 *   graph has present_k_J and present_v_J (k_out_J and v_out_J) for each of its layers J, bound to the cache of the
 *   layer's group.
 * - norm is a row of the norm table; row 0 is the shared final norm.
 * - top_values are the K = min(64, V) largest logits in descending order. target_values are logits[targets].
 * - lse is the log-sum-exp of the logits, and lse_t that of logits * inv_temperature.
 *
 * The graphs of a folder with `pages` are for GPUs. A store [R,H] holds the hidden states of a boundary, and rows name
 * places in it. A table names the pages of each sequence, and a batch is any mix of chunks and single positions, T in
 * all.
 *
 * - embed   ids i64 [T] -> hidden FLOAT [T,H]
 * - stage   store FLOAT [R,H], next FLOAT [R1,H], rows_in i64 [T], rows_out i64 [T,1], the batch,
 *           k_I, v_I FLOAT [pages,page,KV,D] -> next_out, k_out_I, v_out_I
 * - batch   cumulative i32 [B+1], pasts i32 [B], table i32 [B,M], bounds i32 [3]
 * - keys    store FLOAT [R,H], rows_in i64 [T], positions i64 [1,T], rows i64 [T,1], k_I, v_I FLOAT [pages*page,KV*D]
 *           -> k_out_I, v_out_I
 * - head    as above
 * - select  logits, inv_temperature, targets -> selected f32 [N,3K]: values, ids, then lse, lse_t, target value
 * - argmax  logits -> ids i64 [N]
 * - lower   logits, places i64 [n,2], amounts f32 [n] -> lowered [N,V]
 *
 * - next and next_out are bound to the same memory, as are k_I and k_out_I, v_I and v_out_I, logits and lowered.
 * - cumulative are the parts' first positions in the batch; pasts the positions before each part.
 * - bounds lie in main memory: the longest part, the longest sequence with its part, and the least length of that one.
 *
 * The accuracy of an exit by the length of the prompt. Pure.
 *
 * Must not know: how graphs are built (convert) or run (runtime, engine).
 */
import { type Static, Type } from '../../util/schema.js';
import { Architecture } from './architecture.js';

/** Increased when a reader of an older version would misread a folder. */
export const MANIFEST_VERSION = 3;

export const KernelName = Type.Union([
  Type.Literal('int4'),
  Type.Literal('w8a8'),
  Type.Literal('fp32'),
  Type.Literal('fp16'),
  Type.Literal('w8a16'),
  Type.Literal('w4a16'),
]);
export type KernelName = Static<typeof KernelName>;

/** Kernels for GPUs: activations in f16, and weights in f16, 8 or 4 bits. */
export const GPU_KERNELS = ['fp16', 'w8a16', 'w4a16'] as const satisfies readonly KernelName[];

/** The GPU kernel of a folder; undefined for a folder for CPUs. */
export function gpuKernel(kernels: readonly KernelName[]): (typeof GPU_KERNELS)[number] | undefined {
  return GPU_KERNELS.find((kernel) => kernels.includes(kernel));
}

/** Forms of the GPU kernels whose decode batches CUDA replays as captured graphs. Other batches run as without it. */
export const CAPTURED_KERNELS = { 'fp16-graph': 'fp16', 'w8a16-graph': 'w8a16', 'w4a16-graph': 'w4a16' } as const;
export type CapturedKernel = keyof typeof CAPTURED_KERNELS;

/**
 * A kernel that the engine runs: one of the folder's graphs, its captured form, or `int8`, which it makes of `w8a8` at
 * load (int8-graph.ts).
 */
export type StageKernel = KernelName | 'int8' | CapturedKernel;

export function isCaptured(kernel: StageKernel): kernel is CapturedKernel {
  return kernel in CAPTURED_KERNELS;
}

/** The kernel of the graphs that a kernel is loaded from. */
export function storedKernel(kernel: StageKernel): KernelName {
  if (isCaptured(kernel)) return CAPTURED_KERNELS[kernel];
  return kernel === 'int8' ? 'w8a8' : kernel;
}

/** The captured forms of these kernels. */
export function capturedForms(kernels: readonly KernelName[]): readonly CapturedKernel[] {
  const all: readonly CapturedKernel[] = ['fp16-graph', 'w8a16-graph', 'w4a16-graph'];
  return all.filter((kernel) => kernels.includes(CAPTURED_KERNELS[kernel]));
}

/** A number of tokens, and a share of a score. */
export const KeptPoint = Type.Tuple([Type.Integer({ minimum: 0 }), Type.Number({ minimum: 0, maximum: 1 })]);
export type KeptPoint = Static<typeof KeptPoint>;

/** Measured against the full depth of the untouched base model; absent without a measurement. */
export const Quality = Type.Object(
  {
    /** Mean KL divergence from the base's full depth, nats per token. */
    kl: Type.Optional(Type.Number()),
    /** Share of positions whose most likely token is the base model's. An exit without an accuracy counts by it. */
    agreement: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    /** Share of full depth's score on everyday requests with a checkable answer (`bench:everyday`, tuning half). */
    accuracy: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    /** The same behind prompts of so many tokens, which increase (`bench:goodput --prompt-accuracy`). */
    accuracyByPrompt: Type.Optional(Type.Array(KeptPoint, { minItems: 1 })),
  },
  { additionalProperties: false },
);
export type Quality = Static<typeof Quality>;

/**
 * DRY penalty against loops. A token is penalized if it would continue a repetition: the n >= allowedLength tokens
 * before it already occur in the answer, followed by that token. Its logit loses multiplier * base^(n - allowedLength).
 */
export const Dry = Type.Object({
  /** 0 turns the penalty off. */
  multiplier: Type.Number({ minimum: 0, maximum: 100 }),
  base: Type.Number({ minimum: 1, maximum: 10 }),
  allowedLength: Type.Integer({ minimum: 1, maximum: 64 }),
});
export type Dry = Static<typeof Dry>;

/** Sampling defaults: each applies to a request that does not state the field. An absent field is neutral. */
export const Generation = Type.Object(
  {
    /** 0 is greedy. */
    temperature: Type.Optional(Type.Number({ minimum: 0, maximum: 2 })),
    topP: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
    /** 0 is off. */
    topK: Type.Optional(Type.Integer({ minimum: 0 })),
    minP: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    /** 1 is off. */
    repetitionPenalty: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 2 })),
    /** Most tokens of a chat answer whose request has no max_tokens. */
    maxTokens: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
  },
  { additionalProperties: false },
);
export type Generation = Static<typeof Generation>;

/** A share of the answers, and the number of tokens within which that share ends. */
export const LengthQuantile = Type.Tuple([
  Type.Number({ exclusiveMinimum: 0, exclusiveMaximum: 1 }),
  Type.Integer({ minimum: 1 }),
]);
export type LengthQuantile = Static<typeof LengthQuantile>;

/** Lengths of an exit's answers by kind of request (`bench:everyday`): increasing shares with increasing tokens. */
export const Lengths = Type.Object({
  /** Answers to chat messages without a limit. An answer beyond the cap of the measurement has no share here. */
  chat: Type.Array(LengthQuantile),
});
export type Lengths = Static<typeof Lengths>;

/** Graph file of each kernel. */
const KernelGraphs = Type.Partial(
  Type.Object({
    int4: Type.String(),
    w8a8: Type.String(),
    fp32: Type.String(),
    fp16: Type.String(),
    w8a16: Type.String(),
    w4a16: Type.String(),
  }),
);

/**
 * The layers behind a prompt exit (SwiftKV, arXiv 2410.03960). The keys and values of a prompt follow from the states
 * that the unit reads, so its tokens run the keys graph alone.
 */
export const PromptLayers = Type.Object({
  /** Layers that prompt tokens run. */
  exit: Type.Integer({ minimum: 1 }),
  /** Layers that run for a token of the answer. */
  layers: Type.Integer({ minimum: 1 }),
  /** Neighbouring layers that share a KV cache. */
  group: Type.Integer({ minimum: 1 }),
  /** The KV cache of each layer, where `group` does not say it. */
  caches: Type.Optional(Type.Array(Type.Integer({ minimum: 0 }))),
  /** Keys graph of each kernel. */
  graphs: KernelGraphs,
});
export type PromptLayers = Static<typeof PromptLayers>;

export const StageEntry = Type.Object({
  name: Type.String(),
  /** The boundary whose hidden states the stage reads: 0 is the embedding, b > 0 the output of trunk stage b - 1. */
  boundary: Type.Integer({ minimum: 0 }),
  /** Number of KV caches: one for each layer, or for those that `prompt` names. */
  layers: Type.Integer({ minimum: 1 }),
  /** KV heads of each cache and their size; absent: those of the architecture. */
  heads: Type.Optional(Type.Array(Type.Tuple([Type.Integer({ minimum: 1 }), Type.Integer({ minimum: 1 })]))),
  graphs: KernelGraphs,
  /** Absent: every position runs all layers. */
  prompt: Type.Optional(PromptLayers),
});
export type StageEntry = Static<typeof StageEntry>;

export const ExitEntry = Type.Object({
  /**
   * The number that clients name: the layers that run for a token at this exit, its exit block included. Of a looped
   * model it is the loops.
   */
  layer: Type.Integer({ minimum: 1 }),
  /** Index of the last trunk stage; its output boundary is stage + 1. */
  stage: Type.Integer({ minimum: 0 }),
  /** Exit block, a branch off the boundary; null for an exit without one. */
  block: Type.Union([StageEntry, Type.Null()]),
  /** Row of the head's norm table. */
  norm: Type.Integer({ minimum: 0 }),
  quality: Quality,
  /** DRY rule for requests that state no repetition parameter, or neutral ones; absent: no rule. */
  dry: Type.Optional(Dry),
  /** Prior of answer lengths for the scheduler, until it has seen answers; absent without a measurement. */
  lengths: Type.Optional(Lengths),
});
export type ExitEntry = Static<typeof ExitEntry>;

export const FileEntry = Type.Object({
  path: Type.String(),
  size: Type.Integer({ minimum: 0 }),
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
});
export type FileEntry = Static<typeof FileEntry>;

/** The form of the graphs of a paged folder. */
export const PAGES_LAYOUT = 2 as const;

/** A KV cache in pages, whose size the device decides (memory-plan.ts). */
export const Pages = Type.Object({
  layout: Type.Literal(PAGES_LAYOUT),
  /** Graph that lowers single logits. */
  lower: Type.String(),
});
export type Pages = Static<typeof Pages>;

export const Manifest = Type.Object({
  format: Type.Literal('sortie'),
  version: Type.Literal(MANIFEST_VERSION),
  name: Type.String(),
  licence: Type.String(),
  origin: Type.String(),
  architecture: Architecture,
  /** Available kernels, the preferred one first. */
  kernels: Type.Array(KernelName, { minItems: 1 }),
  /** Element type of hidden states. */
  floatType: Type.Union([Type.Literal('f32'), Type.Literal('f16')]),
  /** Element type of the KV cache. */
  kvType: Type.Union([Type.Literal('f32'), Type.Literal('f16'), Type.Literal('i8')]),
  /** Absent: the KV cache has slots, for CPUs. */
  pages: Type.Optional(Pages),
  /** File of a looped model's gate (gate.ts); absent for a model without one. */
  gate: Type.Optional(Type.String()),
  embed: Type.String(),
  head: Type.String(),
  select: Type.String(),
  argmax: Type.String(),
  /** K of the select graph. */
  topK: Type.Integer({ minimum: 1 }),
  /** Trunk stages in order: stage s runs from boundary s to boundary s + 1. */
  stages: Type.Array(StageEntry, { minItems: 1 }),
  /** Shallowest first, each at the end of another trunk stage; the last is full depth. */
  exits: Type.Array(ExitEntry, { minItems: 1 }),
  tokenizer: Type.String(),
  /** File of the Jinja chat template; null for a model without one. */
  chatTemplate: Type.Union([Type.String(), Type.Null()]),
  bosToken: Type.Union([Type.Integer(), Type.Null()]),
  /** Ids that end an answer. */
  eosTokens: Type.Array(Type.Integer()),
  /** Sampling defaults; without temperature, top_p, top_k and min_p: those of common-sampling.ts. */
  generation: Type.Optional(Generation),
  /**
   * Worth of an answer that ends at its last sentence within so many tokens: a mean of everyday requests at full depth
   * (`bench:everyday`, tuning half). Tokens increase, and so does the worth, from [0, 0] to 1. Absent: not measured.
   */
  kept: Type.Optional(Type.Array(KeptPoint, { minItems: 2 })),
  /** Every file of the folder except the manifest itself and README.md. */
  files: Type.Array(FileEntry),
});
export type Manifest = Static<typeof Manifest>;

/** [x, y], x rising. */
export type Points = readonly (readonly [number, number])[];

/** Points of a curve that rises in straight lines from 0 at 0, and is flat behind the last one. */
export function interpolated(points: Points, x: number): number {
  let x0 = 0;
  let y0 = 0;
  for (const [x1, y1] of points) {
    if (x <= x1) return x1 > x0 ? y0 + ((y1 - y0) * Math.max(0, x - x0)) / (x1 - x0) : y1;
    [x0, y0] = [x1, y1];
  }
  return y0;
}

export interface MeasuredAccuracy {
  /** Share of full depth's right answers, 0 to 1; absent: unmeasured, and all of them. */
  readonly accuracy?: number;
  /** The same share behind prompts of so many tokens; absent: `accuracy` behind all. */
  readonly accuracyByPrompt?: Points;
}

/** @param promptTokens a length below all measured ones counts as the shortest of them */
export function accuracyBehind(
  { accuracy = 1, accuracyByPrompt = [] }: MeasuredAccuracy,
  promptTokens: number,
): number {
  const [shortest] = accuracyByPrompt;
  return shortest === undefined ? accuracy : interpolated(accuracyByPrompt, Math.max(promptTokens, shortest[0]));
}

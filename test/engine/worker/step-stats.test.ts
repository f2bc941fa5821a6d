/** The times of a step: by exit, and by its parts. */
import t from 'tap';
import { exitTimes } from '../../../src/engine/worker/step-runner.js';
import type { DepthShape, Work } from '../../../src/engine/scheduler/cost/model.js';
import type { StepWork } from '../../../src/protocol/index.js';
import { answersTo, greedy, makeCore, makeExecutor, PROMPTS } from '../helper.js';
import { tinyModel } from '../tiny-model.js';
import { deviceFault, memoryFault } from '../../../src/engine/worker/device-fault.js';

const shape: DepthShape = {
  stages: ['a', 'b'],
  exits: [10, 30].map((layer, stage) => ({ layer, stage, block: null, accuracy: 1 })),
};
const prefill = { exit: 1, positions: 8, context: 0, chunk: 8 };
/** Predicted costs: 4 ms for decode, 6 ms for each prefill. */
const cost = ({ decode, prefill }: Work): number => (decode === null ? 0 : 4) + prefill.length * 6;

void t.test('exitTimes splits a step by predicted cost and depth, and sums to its duration', (t) => {
  const decode = { rows: [3, 1], context: 5 };
  t.same(exitTimes(shape, { decode, prefill: [] }, cost, 12), [6, 6], 'three rows of 10 layers weigh one of 30');
  t.same(exitTimes(shape, { decode: null, prefill: [prefill] }, cost, 12), [0, 12]);
  t.same(exitTimes(shape, { decode, prefill: [prefill] }, cost, 20), [4, 16]);
  t.same(exitTimes(shape, { decode: { rows: [0, 2], context: 5 }, prefill: [] }, cost, 7), [0, 7]);
  t.same(
    exitTimes(shape, { decode, prefill: [] }, () => 0, 7),
    [0, 0],
    'no predicted cost',
  );
  t.end();
});

void t.test('the parts of each step add up to its cycle, and each belongs to its work', async (t) => {
  const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
  const core = makeCore(executor);
  const [exit = 0] = executor.model.manifest.exits.map(({ layer }) => layer);
  const [prompt = []] = PROMPTS.map((ids) => ids.map((id) => id % executor.model.manifest.architecture.vocab));
  const steps: (StepWork & { readonly tokens: number })[] = [];
  const requests = ['a', 'b'].map((id) => greedy(id, prompt, exit, 6));
  answersTo(core, requests, ({ work, tokens }) => {
    if (work !== null) steps.push({ ...work, tokens: tokens.length });
  });
  t.ok(steps.length > 5);
  for (const { partMs, cycleMs, prefillTokens, tokens } of steps) {
    const sum = Object.values(partMs).reduce((a, b) => a + b, 0);
    t.ok(Math.abs(sum - cycleMs) < 1e-6, `${sum} of ${cycleMs} ms`);
    t.equal(partMs.prefill > 0, prefillTokens > 0, 'prefill');
    t.equal(partMs.decode > 0 && partMs.head > 0, tokens > 0, 'decode and head');
    t.ok(partMs.planning > 0 && partMs.memory > 0, 'every step plans, and moves the memory of its plan');
  }
  const [first, ...later] = steps;
  t.equal(first?.partMs.sampling, 0, 'no step came before the first one');
  t.ok(later.some(({ partMs }) => partMs.sampling > 0 && partMs.messages > 0));
});

// A GPU that fails or lacks memory: the sentence for each source of the error, and none for other errors.

const CUDA =
  'CreateSession: Exception during initialization: /src/cuda_call.cc:154 bool onnxruntime::CudaCall(int, const char*) ' +
  '[with ERRTYPE = cudaError] CUDA failure 2: out of memory ; GPU=0 ; hostname=node-7 ; file=/src/a.cc ; line=1 ; expr=x; ';
const ARENA =
  'RunWithBinding: Non-zero status code returned while running MatMul node.\n' +
  '/src/bfc_arena.cc:359 void* onnxruntime::BFCArena::AllocateRawInternal(size_t) Failed to allocate memory for requested ' +
  'buffer of size 4096';
const REPEATS = "the engine starts again; if that repeats, see the driver's log (dmesg | grep -i xid)";

void t.test('a lack of memory, or an error of the card, is one sentence without the place in the source', (t) => {
  for (const [error, device, phase, expected] of [
    [
      ...([CUDA, 'cuda', 'load'] as const),
      '--device cuda: the GPU has too little memory for the weights, --kv-memory and the largest step ' +
        '(CUDA failure 2: out of memory); lower --kv-memory, --max-running or --prefill-chunk',
    ],
    [ARENA, 'cuda', 'step', /no memory left for a step.*requested buffer of size 4096\)/],
    [
      'cannot reserve 64 bytes on the GPU',
      'webgpu',
      'load',
      /^--device webgpu: .* \(cannot reserve.*; lower --kv-memory/,
    ],
    ['graph stage-0 is missing', 'cuda', 'load', null],
    ['cannot reserve 64 bytes of memory', 'cpu', 'load', null],
  ] as const) {
    const found = memoryFault(new RangeError(error), device, phase);
    if (expected instanceof RegExp) t.match(found, expected);
    else t.equal(found, expected);
  }
  const illegal = CUDA.replace('2: out of memory', '700: an illegal memory access was encountered');
  const sentence =
    '--device cuda: the GPU failed in a step (CUDA failure 700: an illegal memory access was encountered); ';
  t.equal(deviceFault(new Error(illegal)), sentence + REPEATS);
  for (const error of [
    'cuStreamSynchronize: uncorrectable ECC error encountered',
    'RunWithBinding: CUBLAS failure 14: CUBLAS_STATUS_INTERNAL_ERROR ; GPU=0',
    'RunWithBinding: Non-zero status code returned while running Gather node. Status Message: CUDA error x:an ECC error',
  ])
    t.match(deviceFault(new Error(error)), REPEATS);
  t.equal(deviceFault(new RangeError('position 5 has no page')), null);
  t.end();
});

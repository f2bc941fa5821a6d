/** A GPU's faults and its lack of memory, in words that tell the operator what to do. Pure. */

/** `Device.alloc`, CUDA's calls, ONNX Runtime's arenas, Vulkan, without the place in the source around them. */
const NO_MEMORY = new RegExp(
  [
    'cannot reserve \\d+ bytes on the GPU.*',
    '(?:CUDA failure \\d+: )?out of memory',
    'Failed to allocate memory.*',
    '\\w*OUT_OF_DEVICE_MEMORY',
  ].join('|'),
);

/**
 * The sentence for an error of a GPU that lacks memory; null for other errors.
 * @param when the engine was at work
 */
export function memoryFault(error: unknown, device: string, when: 'load' | 'step'): string | null {
  const text = error instanceof Error ? error.message : String(error);
  const [reason] = NO_MEMORY.exec(text) ?? [];
  if (device === 'cpu' || reason === undefined) return null;
  const what =
    when === 'load'
      ? 'the GPU has too little memory for the weights, --kv-memory and the largest step'
      : 'the GPU has no memory left for a step, and another process may have taken it';
  return `--device ${device}: ${what} (${reason}); lower --kv-memory, --max-running or --prefill-chunk`;
}

/**
 * Errors of CUDA and its libraries, without the place in the source around them; `cuStreamSynchronize: ...` of the
 * driver.
 */
const CUDA_FAULT =
  /CUDA error \w+:[^;\n]*|CUDA failure \d+: [^;\n]*|CU(?:BLAS|DNN) failure \d+: [^;\n]*|\bcu[A-Z]\w+: [^;\n]*/;

/**
 * The sentence for an error that a device or its driver reports, such as an illegal address or an ECC error; null for
 * other errors. All later work of the process fails as well, and a new process may serve again.
 */
export function deviceFault(error: unknown): string | null {
  const [reason] = CUDA_FAULT.exec(error instanceof Error ? error.message : String(error)) ?? [];
  if (reason === undefined) return null;
  return `--device cuda: the GPU failed in a step (${reason.trim()}); the engine starts again; if that repeats, see the driver's log (dmesg | grep -i xid)`;
}

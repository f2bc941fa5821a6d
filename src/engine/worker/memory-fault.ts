/** A GPU's lack of memory, in words that tell the operator what to change. Pure. */

/** `Device.alloc`, CUDA's calls, ONNX Runtime's arenas, Vulkan, without the place in the source around them. */
const NO_MEMORY =
  /cannot reserve \d+ bytes on the GPU.*|CUDA failure \d+: out of memory|Failed to allocate memory.*|\w*OUT_OF_DEVICE_MEMORY|out of memory/;

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

/**
 * Detects whether sums of byte products saturate on this processor.
 *
 * x86 processors with AVX2 or AVX-512 but without VNNI (Zen 3, Skylake and older) can't add byte products in 32 bits.
 * ONNX Runtime's kernels for unsigned times signed bytes then add neighbours in 16 bits, which saturate. Two products
 * of 255 x 127 give 32,767 instead of 64,770, and answers drift silently. A measurement, unlike processor flags, holds
 * on every system and for later versions of the library.
 */
import type { Device } from './device.js';
import type { Environment } from './environment.js';
import { Session, type SessionSpec } from './session.js';
import { hostF32 } from './tensor.js';

/** Rows, inner width and columns of the product. */
export const PROBE = { rows: 2, width: 64, columns: 16 } as const;
const LARGEST = 127;

/**
 * y = x W with x rounded to bytes around 128 in steps of 1/127. Every weight is 127, for the largest possible sums.
 * test/runtime/saturation.test.ts compares it with a graph built from operators.
 */
export const PROBE_GRAPH = [
  'CAoSBnNvcnRpZTrtAgoxCgdsYXJnZXN0CgVzaGFwZRIGd2VpZ2h0Gg13ZWlnaHQvRXhwYW5kIgZFeHBhbmQ6AAo+CgF4CgR1bml0',
  'CgR6ZXJvEgVieXRlcxoUYnl0ZXMvUXVhbnRpemVMaW5lYXIiDlF1YW50aXplTGluZWFyOgAKYgoFYnl0ZXMKBndlaWdodAoEdW5p',
  'dAoFc2NhbGUKBHplcm8SAXkaFnkvTWF0TXVsSW50ZWdlclRvRmxvYXQiFE1hdE11bEludGVnZXJUb0Zsb2F0Og1jb20ubWljcm9z',
  'b2Z0EgVwcm9iZSoOEAFCBHVuaXRKBAQCATwqCxACQgR6ZXJvSgGAKg4QA0IHbGFyZ2VzdEoBfyodCAIQB0IFc2hhcGVKEEAAAAAA',
  'AAAAEAAAAAAAAAAqDxABQgVzY2FsZUoEAACAP1oXCgF4EhIKEAgBEgwKBhIEcm93cwoCCEBiFwoBeRISChAIARIMCgYSBHJvd3MK',
  'AggQQgQKABAVQhEKDWNvbS5taWNyb3NvZnQQAQ==',
].join('');

/** Tests the kernels that add in 32 bits with `accumulateInt32`, and the default ones otherwise. */
export function saturates(
  environment: Environment,
  device: Device,
  { accumulateInt32 = false }: Partial<Pick<SessionSpec, 'accumulateInt32'>> = {},
): boolean {
  const { rows, width, columns } = PROBE;
  const session = new Session(environment, device, Buffer.from(PROBE_GRAPH, 'base64'), {
    weights: new Map(),
    accumulateInt32,
  });
  const x = hostF32(rows * width);
  const y = hostF32(rows * columns);
  x.data.fill(1);
  const binding = session.bind({
    hostInputs: { x: x.tensor(environment, [rows, width]) },
    inputs: {},
    outputs: { y: y.tensor(environment, [rows, columns]) },
  });
  binding.run();
  binding.dispose();
  session.dispose();
  return y.data.some((sum) => Math.abs(sum - width * LARGEST) > 0.5);
}

/** The control of the fake CUDA libraries in a process that runs over them. */
import koffi from 'koffi';

const library = koffi.load('libcuda.so.1');
const set = library.func('void fakeMark(const char*)');
const idle = library.func('int64_t fakeIdleNs()');

/** Divides the trace, and writes it to the file. */
export function mark(text: string): void {
  set(text);
}

/** Milliseconds in which the device has had no work between two kernels, with FAKE_CUDA_KERNEL_NS. */
export function idleMs(): number {
  return Number(idle()) / 1e6;
}

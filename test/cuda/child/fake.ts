/** The control of the fake CUDA libraries in a process that runs over them. */
import koffi from 'koffi';

const set = koffi.load('libcuda.so.1').func('void fakeMark(const char*)');

/** Divides the trace, and writes it to the file. */
export function mark(text: string): void {
  set(text);
}

/** The card and its driver, as CUDA's driver library and nvidia-smi report them. */
import { execFileSync } from 'node:child_process';
import koffi from 'koffi';

export interface Card {
  readonly name: string;
  readonly driver: string;
  readonly memoryMib: number;
  /** Newest CUDA version that the driver supports. */
  readonly cuda: number;
}

/** @throws Error without a driver or a card */
export function readCard(): Card {
  const library = koffi.load('libcuda.so.1');
  const check = (call: string, code: unknown): void => {
    if (code !== 0) throw new Error(`${call}: error ${String(code)}`);
  };
  check('cuInit', library.func('int cuInit(unsigned int)')(0));
  const name = Buffer.alloc(100);
  check('cuDeviceGetName', library.func('int cuDeviceGetName(void*, int, int)')(name, name.byteLength, 0));
  const bytes: [bigint | number] = [0];
  check('cuDeviceTotalMem', library.func('int cuDeviceTotalMem_v2(_Out_ size_t*, int)')(bytes, 0));
  const version: [number] = [0];
  check('cuDriverGetVersion', library.func('int cuDriverGetVersion(_Out_ int*)')(version));
  return {
    name: name.toString('utf8').replace(/\0.*$/s, ''),
    driver: smi('--query-gpu=driver_version') ?? `CUDA ${Math.floor(version[0] / 1000)}.${(version[0] % 1000) / 10}`,
    cuda: Math.floor(version[0] / 1000) + (version[0] % 1000) / 100,
    memoryMib: Math.round(Number(bytes[0]) / 2 ** 20),
  };
}

/** Memory of the card in use, MiB; null without nvidia-smi. */
export function usedMib(): number | null {
  const text = smi('--query-gpu=memory.used');
  return text === null ? null : Number(text);
}

function smi(query: string): string | null {
  try {
    const args = [query, '--format=csv,noheader,nounits', '--id=0'];
    return execFileSync('nvidia-smi', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return null;
  }
}

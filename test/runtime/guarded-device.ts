/**
 * Main memory as a device that the host can't touch: it is protected outside runs and copies, so that any access by the
 * engine itself ends the process. Counts what a step does.
 */
import koffi from 'koffi';
import { cpuDevice, type HostDevice } from '../../src/engine/runtime/device.js';
import type { Environment } from '../../src/engine/runtime/environment.js';
import { PAGE } from '../../src/engine/runtime/libc.js';

const PROT_NONE = 0;
const PROT_READ_WRITE = 3;
const mprotect = koffi.load('libc.so.6').func('int mprotect(void*, size_t, int)');

export interface GuardedCounts {
  runs: number;
  copies: number;
  uploads: number;
  downloads: number;
}

/** Guards all memory of a device from now on. The environment's runs open it. */
export function guardedDevice(environment: Environment, counts: GuardedCounts): HostDevice {
  const device = cpuDevice(environment);
  const areas = new Map<bigint, number>();
  let depth = 0;
  const protect = (address: bigint, bytes: number, mode: number): void => {
    const size = Math.ceil(bytes / PAGE) * PAGE;
    if (mprotect(address, size, mode) !== 0) throw new Error(`mprotect of ${bytes} bytes failed`);
  };
  const opened = <T>(work: () => T): T => {
    if (depth++ === 0) for (const [address, bytes] of areas) protect(address, bytes, PROT_READ_WRITE);
    try {
      return work();
    } finally {
      if (--depth === 0) for (const [address, bytes] of areas) protect(address, bytes, PROT_NONE);
    }
  };
  const { ort } = environment;
  const call = ort.call.bind(ort);
  ort.call = (name, ...args) => {
    if (name !== 'RunWithBinding') {
      call(name, ...args);
      return;
    }
    counts.runs++;
    opened(() => {
      call(name, ...args);
    });
  };
  return {
    ...device,
    alloc: (bytes) => {
      const address = device.alloc(bytes);
      areas.set(address, bytes);
      if (depth === 0) protect(address, bytes, PROT_NONE);
      return address;
    },
    free: (address, bytes) => {
      areas.delete(address);
      device.free(address, bytes);
    },
    copy: (target, source, bytes) => {
      counts.copies++;
      opened(() => {
        device.copy(target, source, bytes);
      });
    },
    upload: (copies) => {
      counts.uploads++;
      opened(() => {
        device.upload(copies);
      });
    },
    download: (source, target) => {
      counts.downloads++;
      opened(() => {
        device.download(source, target);
      });
    },
  };
}

/** Host memory as a device: lazily committed, copied with memcpy. */
import type { Device } from './device.js';
import type { Environment } from './environment.js';
import { copyBytes, giveBack, reserve, unreserve, viewMemory } from './libc.js';

export function cpuDevice(environment: Environment): Device {
  return {
    kind: 'cpu',
    lazy: true,
    copiesInputsAtBind: false,
    memoryInfo: environment.hostMemory,
    configure: () => undefined,
    alloc: reserve,
    free: unreserve,
    copy: copyBytes,
    read: (source, target) => {
      target.set(new Uint8Array(viewMemory(source, target.byteLength)));
    },
    write: (target, source) => {
      new Uint8Array(viewMemory(target, source.byteLength)).set(source);
    },
    giveBack,
  };
}

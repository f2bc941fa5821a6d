/** Host memory as a device: lazily committed, copied with memcpy. */
import type { HostDevice } from './device.js';
import type { Environment } from './environment.js';
import { copyBytes, releasePages, reserve, unreserve, viewMemory } from './libc.js';

export function cpuDevice(environment: Environment): HostDevice {
  return {
    kind: 'cpu',
    copiesInputsAtBind: false,
    memoryInfo: environment.hostMemory,
    maxBufferBytes: Infinity,
    info: () => null,
    configure: () => undefined,
    alloc: reserve,
    free: unreserve,
    copy: copyBytes,
    upload: (copies) => {
      for (const { target, source } of copies) new Uint8Array(viewMemory(target, source.byteLength)).set(source);
    },
    download: (source, target) => {
      target.set(new Uint8Array(viewMemory(source, target.byteLength)));
    },
    releasePages,
  };
}

/** The GPUs that Vulkan names: ONNX Runtime's WebGPU provider runs on the first one here, and does not tell which. */
import koffi from 'koffi';
import type { DeviceInfo } from './device.js';
import { reserve, unreserve, viewMemory } from './libc.js';

const LOADER = 'libvulkan.so.1';
const VULKAN_1_2 = (1 << 22) | (2 << 12);
/** Structs of vulkan_core.h by their type. */
const APPLICATION = 0;
const INSTANCE = 1;
const PROPERTIES_2 = 1000059001;
const DRIVER = 1000196000;
const DEVICE_LOCAL = 1;
/** Types of devices, the one that the provider prefers first: discrete, integrated, virtual, processor. */
const PREFERRED = [2, 1, 3, 4];

/** Offsets of fields in these structs on 64-bit systems. */
const PROPERTIES = { kind: 32, name: 36, maxStorageBufferRange: 340 } as const;
const DRIVER_NAMES = { name: 20, info: 276 } as const;
const MEMORY = { heapCount: 260, heaps: 264, heapBytes: 16, heapFlags: 8 } as const;
const SCRATCH_BYTES = 4096;

export interface Adapter {
  readonly info: DeviceInfo;
  /** Most bytes of a buffer that a kernel binds. */
  readonly maxBufferBytes: number;
}

/** Empty where no Vulkan loader is installed, or it finds no GPU. */
export function vulkanAdapters(): readonly Adapter[] {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load(LOADER);
  } catch {
    return [];
  }
  const scratch = reserve(SCRATCH_BYTES);
  try {
    return adaptersOf(library, scratch);
  } finally {
    unreserve(scratch, SCRATCH_BYTES);
  }
}

function adaptersOf(library: ReturnType<typeof koffi.load>, scratch: bigint): Adapter[] {
  const view = new DataView(viewMemory(scratch, SCRATCH_BYTES));
  const out: [bigint | null] = [null];
  // VkInstanceCreateInfo at 0, and VkApplicationInfo at 128.
  view.setInt32(0, INSTANCE, true);
  view.setBigUint64(24, scratch + 128n, true);
  view.setInt32(128, APPLICATION, true);
  view.setUint32(128 + 44, VULKAN_1_2, true);
  if (library.func('int vkCreateInstance(void*, void*, _Out_ void**)')(scratch, null, out) !== 0) return [];
  const [instance] = out;
  try {
    const list = library.func('int vkEnumeratePhysicalDevices(void*, void*, void*)');
    const most = 16;
    view.setUint32(0, most, true);
    if (list(instance, scratch, scratch + 8n) !== 0) return [];
    const devices = Array.from({ length: view.getUint32(0, true) }, (_, i) => view.getBigUint64(8 + 8 * i, true));
    return devices.map((device) => describe(library, device, scratch)).sort((a, b) => a.rank - b.rank);
  } finally {
    library.func('void vkDestroyInstance(void*, void*)')(instance, null);
  }
}

function describe(
  library: ReturnType<typeof koffi.load>,
  device: bigint,
  scratch: bigint,
): Adapter & { readonly rank: number } {
  const bytes = new Uint8Array(viewMemory(scratch, SCRATCH_BYTES)).fill(0);
  const view = new DataView(bytes.buffer);
  // VkPhysicalDeviceProperties2, whose chain has VkPhysicalDeviceDriverProperties behind it.
  const driver = 1024;
  view.setInt32(0, PROPERTIES_2, true);
  view.setBigUint64(8, scratch + BigInt(driver), true);
  view.setInt32(driver, DRIVER, true);
  library.func('void vkGetPhysicalDeviceProperties2(void*, void*)')(device, scratch);
  const text = (from: number): string => new TextDecoder().decode(bytes.subarray(from, bytes.indexOf(0, from)));
  const name = text(PROPERTIES.name);
  const maxBufferBytes = view.getUint32(PROPERTIES.maxStorageBufferRange, true);
  const rank = PREFERRED.indexOf(view.getInt32(PROPERTIES.kind, true));
  const names = [DRIVER_NAMES.name, DRIVER_NAMES.info].map((at) => text(driver + at));
  bytes.fill(0);
  library.func('void vkGetPhysicalDeviceMemoryProperties(void*, void*)')(device, scratch);
  const heaps = Array.from({ length: view.getUint32(MEMORY.heapCount, true) }, (_, i) => {
    const at = MEMORY.heaps + i * MEMORY.heapBytes;
    const isLocal = (view.getUint32(at + MEMORY.heapFlags, true) & DEVICE_LOCAL) !== 0;
    return isLocal ? Number(view.getBigUint64(at, true)) : 0;
  });
  const memoryBytes = heaps.reduce((a, b) => a + b, 0);
  const driverName = names.filter(Boolean).join(' ') || null;
  return { info: { index: 0, name, driver: driverName, memoryBytes, freeBytes: null }, maxBufferBytes, rank };
}

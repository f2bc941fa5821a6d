/**
 * Any vendor's GPU as a device, through ONNX Runtime's WebGPU provider. Memory is a buffer's handle. All sessions share
 * one queue, so runs and copies are ordered; only a download waits.
 */
import koffi from 'koffi';
import type { Device, Gpu, InputAreas, Upload, DeviceInfo } from './device.js';
import type { Environment } from './environment.js';
import { reserve, unreserve, viewMemory } from './libc.js';
import type { Handle } from './ort-api.js';
import { Session, type SessionDevice } from './session.js';
import { Tensor } from './tensor.js';

/** y = x + x, for a session whose allocator every other session's tensors may use. */
const ADD_GRAPH = Buffer.from(
  'CAoSBnNvcnRpZTpAChcKAXgKAXgSAXkaBXkvQWRkIgNBZGQ6ABIDc3VtWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUIECgAQFUIRCg1jb20ubWljcm9zb2Z0EAE=',
  'base64',
);

/**
 * @param index number of the adapter. The provider computes on one adapter, number 0. Its devices share queue and
 * memory.
 * @throws Error for another adapter, if the library lacks the provider, or finds no adapter
 */
export function webgpuDevice(environment: Environment, index = 0): Gpu {
  if (index !== 0)
    throw new Error(`--device webgpu:${index}: ONNX Runtime's WebGPU provider computes on one adapter, webgpu:0`);
  const { ort } = environment;
  const memoryInfo = ort.create('CreateMemoryInfo', 'WebGPU_Buf', 0, 0, 0);
  const staging = new Staging();
  const [adapter] = vulkanAdapters();
  const copyAll = copier(environment, memoryInfo);

  const device: Omit<Gpu, 'alloc' | 'allocInputs' | 'dispose'> = {
    kind: 'webgpu',
    copiesInputsAtBind: true,
    padsParts: true,
    memoryInfo,
    maxBufferBytes: adapter?.maxBufferBytes ?? Infinity,
    info: () => adapter?.info ?? null,
    configure: (options) => {
      appendProvider(environment, options);
    },
    upload: (copies) => {
      if (copies.length === 0) return;
      const places = staging.hold(copies);
      const pairs = copies.map(({ target: buffer, source }, i) => ({
        host: places[i] ?? 0n,
        buffer,
        bytes: source.byteLength,
      }));
      copyAll(pairs, false);
    },
    download: (source, target) => {
      const host = staging.place(target.byteLength);
      copyAll([{ host, buffer: source, bytes: target.byteLength }], true);
      target.set(new Uint8Array(viewMemory(host, target.byteLength)));
    },
  };
  const { alloc, dispose } = buffers(environment, device, copyAll);
  return { ...device, alloc, allocInputs: (sizes) => inputAreas(device, sizes.map(alloc), sizes), dispose };
}

/** Allocates zeroed buffers, and frees all of them. */
function buffers(
  environment: Environment,
  device: Omit<Gpu, 'alloc' | 'allocInputs' | 'dispose'>,
  copyAll: ReturnType<typeof copier>,
): Pick<Gpu, 'alloc' | 'dispose'> {
  const { ort } = environment;
  const allocator = openAllocator(environment, device);
  const held: bigint[] = [];
  const alloc = (bytes: number): bigint => {
    if (bytes > device.maxBufferBytes)
      throw new RangeError(`the GPU binds at most ${device.maxBufferBytes} bytes as one buffer, got ${bytes}`);
    const buffer = ort.create('AllocatorAlloc', allocator, bytes);
    // Without memory the provider logs an error and returns a buffer all the same, which keeps nothing.
    const probe = Uint8Array.of(1, 2, 3, 4);
    const found = new Uint8Array(probe.length);
    device.upload([{ target: buffer, source: probe.subarray(0, bytes) }]);
    device.download(buffer, found.subarray(0, bytes));
    if (probe.subarray(0, bytes).some((byte, i) => found[i] !== byte))
      throw new RangeError(`cannot reserve ${bytes} bytes on the GPU: out of memory`);
    // The provider switches the zeroing of new buffers off. Reserved pages read as zeros and take no memory.
    const zeros = reserve(bytes);
    copyAll([{ host: zeros, buffer, bytes }], false);
    unreserve(zeros, bytes);
    held.push(buffer);
    return buffer;
  };
  const dispose = (): void => {
    for (const buffer of held.splice(0)) ort.call('AllocatorFree', allocator, buffer);
  };
  return { alloc, dispose };
}

/** Copies between host and buffers in one call, each from the beginning of its allocation. */
function copier(environment: Environment, memoryInfo: Handle) {
  return (pairs: readonly { host: bigint; buffer: bigint; bytes: number }[], toHost: boolean): void => {
    const hosts = pairs.map(({ host, bytes }) => new Tensor(environment, environment.hostMemory, host, [bytes], 'u8'));
    const buffers = pairs.map(({ buffer, bytes }) => new Tensor(environment, memoryInfo, buffer, [bytes], 'u8'));
    const handles = (tensors: readonly Tensor[]): bigint[] => tensors.map(({ handle }) => handle);
    const [from, to] = toHost ? [buffers, hosts] : [hosts, buffers];
    environment.ort.call('CopyTensors', environment.handle, handles(from), handles(to), null, pairs.length);
    for (const tensor of [...hosts, ...buffers]) tensor.dispose();
  };
}

function inputAreas(device: Pick<Gpu, 'upload'>, addresses: bigint[], sizes: readonly number[]): InputAreas {
  const hosts = sizes.map((bytes) => new Uint8Array(bytes));
  return {
    addresses,
    hosts,
    upload: (bytes) => {
      const copies = addresses.map((target, i) => ({ target, source: hosts[i]?.subarray(0, bytes[i]) }));
      device.upload(copies.flatMap(({ target, source }) => (source?.byteLength ? { target, source } : [])));
    },
  };
}

/** Allocators belong to sessions, and all sessions share one GPU device, so this session stays. */
function openAllocator(environment: Environment, device: SessionDevice & Pick<Device, 'memoryInfo'>): Handle {
  try {
    const spec = { weights: new Map<string, Uint8Array>(), accumulateInt32: false };
    const session = new Session(environment, device, ADD_GRAPH, spec);
    return environment.ort.create('CreateAllocator', session.handle, device.memoryInfo);
  } catch (error) {
    const reason = reasonOf(error);
    const remedy = reason.includes('adapter')
      ? "install the GPU's Vulkan driver (on Debian without a GPU: mesa-vulkan-drivers)"
      : `onnxruntime-node has no WebGPU for ${process.platform}-${process.arch}`;
    throw new Error(`--device webgpu: ${reason}; ${remedy}`, { cause: error });
  }
}

function appendProvider({ ort }: Environment, options: Handle): void {
  // Chosen token ids are int64.
  ort.call('SessionOptionsAppendExecutionProvider', options, 'WebGPU', ['enableInt64'], ['1'], 1);
}

/** The first line of an error, without the place in ONNX Runtime's source. */
function reasonOf(error: unknown): string {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
  return (
    line
      .split(/ : |: /)
      .at(-1)
      ?.trim() ?? line
  );
}

/** Host memory that stays between copies, bytes; weights take more. */
const MOST_KEPT = 2 ** 26;

/** Host memory that never moves, for the time of a copy. */
class Staging {
  #address = 0n;
  #bytes = 0;

  /** Memory of at least these bytes. */
  place(bytes: number): bigint {
    if (bytes > this.#bytes || this.#bytes > MOST_KEPT) {
      if (this.#bytes > 0) unreserve(this.#address, this.#bytes);
      this.#bytes = 2 ** Math.ceil(Math.log2(bytes + 4096));
      this.#address = reserve(this.#bytes);
    }
    return this.#address;
  }

  /** Copies the sources, one behind the other. @returns their addresses */
  hold(copies: readonly Upload[]): bigint[] {
    const starts: number[] = [];
    let total = 0;
    for (const { source } of copies) {
      starts.push(total);
      total += Math.ceil(source.byteLength / 8) * 8;
    }
    const base = this.place(total);
    const memory = new Uint8Array(viewMemory(base, total));
    copies.forEach(({ source }, i) => {
      memory.set(source, starts[i]);
    });
    return starts.map((start) => base + BigInt(start));
  }
}

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

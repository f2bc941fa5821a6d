/** A loaded graph, and bindings of its inputs and outputs to fixed memory. */
import type { Device } from './device.js';
import { createRunOptions, type Environment } from './environment.js';
import type { Handle } from './ort-api.js';
import type { Tensor } from './tensor.js';

/** Weight files in memory, by the file name in the graphs' external data. */
export type WeightFiles = ReadonlyMap<string, Uint8Array>;

/** The part of a device that sessions use. */
export type SessionDevice = Pick<Device, 'kind' | 'copiesInputsAtBind' | 'configure'>;

export interface SessionSpec {
  readonly weights: WeightFiles;
  /**
   * Multiplies unsigned and signed bytes with kernels that add in 32 bits. They are slower, and only needed if the
   * default kernels saturate (saturation.ts).
   */
  readonly accumulateInt32: boolean;
  /** Whether bindings may name a graph; absent: no. */
  readonly captures?: boolean;
  /** Folder of the weight files of a graph in bytes; absent: `weights` has all. */
  readonly folder?: string;
  /** Weights in the device's memory, by name. They outlive the session. */
  readonly initializers?: ReadonlyMap<string, Tensor>;
}

export interface BindingSpec {
  /**
   * Number of the binding's graph in its session; absent: none. The first run captures it, and later ones replay it:
   * inputs of main memory keep their first values, and all others are read where the first run had them.
   */
  readonly graph?: number;
  /** Inputs that the host writes between runs. */
  readonly hostInputs: Readonly<Record<string, Tensor>>;
  /** All other inputs, at fixed addresses. */
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly outputs: Readonly<Record<string, Tensor>>;
}

/** One way to run a session: shapes and addresses are fixed, contents are not. */
export class Binding {
  readonly #handle: Handle;
  readonly #session: Session;
  readonly #spec: BindingSpec;
  readonly #options: Handle;

  constructor(session: Session, spec: BindingSpec) {
    this.#session = session;
    this.#spec = spec;
    const { ort } = session.environment;
    this.#handle = ort.create('CreateIoBinding', session.handle);
    for (const [name, tensor] of Object.entries(spec.inputs)) ort.call('BindInput', this.#handle, name, tensor.handle);
    for (const [name, tensor] of Object.entries(spec.outputs))
      ort.call('BindOutput', this.#handle, name, tensor.handle);
    this.#bindHostInputs();
    this.#options = spec.graph === undefined ? session.environment.runOptions : createRunOptions(ort, spec.graph);
  }

  /** Runs the graph to its end. @throws OrtError */
  run(): void {
    const { ort } = this.#session.environment;
    if (this.#session.device.copiesInputsAtBind) this.#bindHostInputs();
    ort.call('RunWithBinding', this.#session.handle, this.#options, this.#handle);
  }

  /** Releases the binding and its tensors. */
  dispose(): void {
    const { ort } = this.#session.environment;
    ort.release('ReleaseIoBinding', this.#handle);
    if (this.#spec.graph !== undefined) ort.release('ReleaseRunOptions', this.#options);
    for (const group of [this.#spec.hostInputs, this.#spec.inputs, this.#spec.outputs])
      for (const tensor of Object.values(group)) tensor.dispose();
  }

  #bindHostInputs(): void {
    const { ort } = this.#session.environment;
    for (const [name, tensor] of Object.entries(this.#spec.hostInputs))
      ort.call('BindInput', this.#handle, name, tensor.handle);
  }
}

export class Session {
  readonly handle: Handle;

  /**
   * Loads a graph from a file or from its bytes.
   * @param spec.weights external data in memory; other files are read from the graph's folder
   * @throws OrtError if the file is missing or not a valid graph
   */
  constructor(
    readonly environment: Environment,
    readonly device: SessionDevice,
    graph: string | Uint8Array,
    { weights, accumulateInt32, captures = false, folder, initializers = new Map<string, Tensor>() }: SessionSpec,
  ) {
    const { ort } = environment;
    const options = ort.create('CreateSessionOptions');
    try {
      ort.call('DisablePerSessionThreads', options);
      // Shapes change from run to run, and a memory pattern per shape only costs memory.
      ort.call('DisableMemPattern', options);
      ort.call('AddSessionConfigEntry', options, 'session.use_env_allocators', '1');
      device.configure(options, captures);
      // A node without a kernel of the device would run on the CPU, with two copies in every step. This is an error
      // that names the node.
      if (device.kind !== 'cpu') ort.call('AddSessionConfigEntry', options, 'session.disable_cpu_ep_fallback', '1');
      if (folder !== undefined)
        ort.call('AddSessionConfigEntry', options, 'session.model_external_initializers_file_folder_path', folder);
      if (accumulateInt32) ort.call('AddSessionConfigEntry', options, 'session.x64quantprecision', '1');
      for (const [name, { handle }] of initializers) ort.call('AddInitializer', options, name, handle);
      if (weights.size > 0) {
        const buffers = [...weights.values()];
        ort.call(
          'AddExternalInitializersFromFilesInMemory',
          options,
          [...weights.keys()],
          buffers as unknown as bigint[],
          BigUint64Array.from(buffers, (buffer) => BigInt(buffer.byteLength)),
          buffers.length,
        );
      }
      this.handle =
        typeof graph === 'string'
          ? ort.create('CreateSession', environment.handle, graph, options)
          : ort.create('CreateSessionFromArray', environment.handle, graph, graph.byteLength, options);
    } finally {
      ort.release('ReleaseSessionOptions', options);
    }
  }

  bind(spec: BindingSpec): Binding {
    return new Binding(this, spec);
  }

  dispose(): void {
    this.environment.ort.release('ReleaseSession', this.handle);
  }
}

export class BindingCache {
  readonly #bindings = new Map<string, Pick<Binding, 'run' | 'dispose'>>();
  readonly #most: number;

  /** @param most bindings to keep: a new one beyond them disposes all, since each holds memory outside JavaScript */
  constructor(most = Infinity) {
    this.#most = most;
  }

  /** Runs the binding of a key, and makes it if the cache lacks it. */
  run(key: string, make: () => Pick<Binding, 'run' | 'dispose'>): void {
    let binding = this.#bindings.get(key);
    if (!binding) {
      if (this.#bindings.size >= this.#most) this.dispose();
      binding = make();
      this.#bindings.set(key, binding);
    }
    binding.run();
  }

  /** Frees all bindings; the cache stays usable. */
  dispose(): void {
    for (const binding of this.#bindings.values()) binding.dispose();
    this.#bindings.clear();
  }
}

/** Bindings to keep if each range of rows may have one: their number grows with the square of the rows. */
export const MAX_RANGES = 128;

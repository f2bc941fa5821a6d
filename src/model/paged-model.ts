/**
 * A loaded sorted model whose KV cache has pages, on a GPU: the caches of every unit, and the hidden states.
 *
 * A run takes any mix of chunks and single positions. Its control data goes to the device in one upload, then every
 * graph runs without a wait. States never move: a graph gathers its rows from one store and scatters its results to the
 * next.
 *
 * Must not know: sequences, depth policy, sampling.
 */
import type { Gpu, InputAreas } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import type { Session } from '../runtime/session.js';
import { elementBytes, hostI32, type Tensor } from '../runtime/tensor.js';
import { BindingCache, MAX_RANGES } from './binding-cache.js';
import {
  type BatchPart,
  type BatchShape,
  Control,
  CONTROL_AREAS,
  controlSizes,
  intsOf,
  writeLongs,
} from './control.js';
import {
  disposeUnits,
  exitIndexOf,
  GraphLoader,
  type Model,
  type ModelSource,
  type ModelUnit,
  type PlacedDevice,
  sessionOf,
} from './graphs.js';
import { GpuTensors, type HiddenStore, openStores } from './hidden-store.js';
import type { StageKernel, Manifest } from './manifest.js';
import { allocatedPerPosition } from './memory.js';
import type { MemoryPlan } from './memory-plan.js';
import { headSizes } from './head-memory.js';
import { PagedHead, type WantedRow } from './paged-head.js';
import { MOST_PARTS, mostTokens, type PagedLimits, tablePages } from './paged-limits.js';
import { isReplayed, openPlaces, type PagedUnit, sizesOf, writeBounds } from './paged-unit.js';

/** The work of a run, by unit index. */
export interface PagedRun {
  /** Token ids that the first stage embeds; its batch has their positions. */
  readonly ids: readonly number[];
  /**
   * Units in the order in which they run, each with its batch. Units whose parts are the first ones of an earlier
   * unit's batch share its control data on the device.
   */
  readonly units: readonly {
    readonly unit: number;
    readonly kernel: StageKernel;
    readonly parts: readonly BatchPart[];
    /** An earlier unit of the run whose first parts these are; null for a batch of its own. */
    readonly like: number | null;
  }[];
  /** Rows whose logits the head leaves in its rows, with their norms; null: none. */
  readonly head: { readonly rows: readonly WantedRow[]; readonly norms: readonly number[] } | null;
}

/** Input areas before those of the units: token ids, then the head's. */
const IDS = 0;
const HEAD = 1;

export class PagedModel implements Model {
  readonly device: Gpu;
  readonly manifest: Manifest;
  readonly environment: Environment;
  /** Prompt exits run on CPUs alone. */
  readonly prompt = null;
  readonly stages: readonly ModelUnit[];
  readonly exits: Model['exits'];
  readonly kernelFaults: readonly string[];
  readonly gate = null;
  readonly head: PagedHead;
  /** The states of each boundary; boundary 0 holds embeddings. */
  readonly boundaries: readonly HiddenStore[];
  /** The states of each exit block, by its place among the blocks. */
  readonly blocks: readonly HiddenStore[];
  /** Most positions of a unit in a run. */
  readonly maxTokens: number;
  readonly #loader: GraphLoader;
  readonly #gpu: GpuTensors;
  readonly #units: readonly PagedUnit[];
  readonly #embed: Session;
  readonly #embedBindings = new BindingCache(MAX_RANGES);
  readonly #inputs: InputAreas;
  /** Bytes of each area that the next upload copies. */
  readonly #used: number[];
  readonly #ids: Int32Array;
  /** Rows 0, 1, 2 ... of stores without pages. */
  readonly #places: bigint;

  /**
   * Loads all graphs.
   * @param plan the plan of the memory, for the log
   * @throws OrtError that names the graph, RangeError if the memory does not suffice
   */
  constructor(
    source: ModelSource,
    device: Gpu,
    readonly limits: PagedLimits,
    readonly plan: MemoryPlan | null = null,
  ) {
    const { manifest, environment } = source;
    this.manifest = manifest;
    this.environment = environment;
    this.device = device;
    const loader = new GraphLoader(source, device);
    this.#loader = loader;
    this.#embed = loader.session(manifest.embed);
    this.stages = manifest.stages.map((entry) => loader.unit(entry));
    this.exits = manifest.exits.map((entry) => ({ entry, block: entry.block && loader.unit(entry.block) }));
    this.kernelFaults = loader.kernelFaults;
    const blocks = this.exits.flatMap(({ block }) => block ?? []);
    this.maxTokens = mostTokens(limits);

    this.#gpu = new GpuTensors(environment, device);
    const stores = openStores(this.#gpu, manifest, { paged: limits.pages * limits.page, batch: this.maxTokens });
    this.boundaries = stores.boundaries;
    this.blocks = stores.blocks;
    const most = { tokens: this.maxTokens, parts: Math.min(limits.maxRows, MOST_PARTS), pages: tablePages(limits) };
    const units = [...this.stages, ...blocks];
    const before = [this.maxTokens * 8, ...headSizes(limits.maxRows, units.length)];
    const sizes = [...before, ...units.flatMap(() => controlSizes(most))];
    const firstOf = (unit: number): number => before.length + unit * CONTROL_AREAS;
    this.#inputs = device.allocInputs(sizes);
    this.#used = sizes.map(() => 0);
    this.#ids = intsOf(this.#inputs, IDS);
    this.#places = openPlaces(device, this.maxTokens);
    this.#units = units.map(({ entry, sessions }, unit) => ({
      entry,
      source: itemAt(stores.boundaries, entry.boundary),
      target:
        unit < this.stages.length
          ? itemAt(stores.boundaries, unit + 1)
          : itemAt(stores.blocks, unit - this.stages.length),
      sessions,
      firstGraph: unit * 2 * (this.maxTokens + 1),
      buffers: Array.from({ length: 2 * entry.layers }, () => device.alloc(this.#bufferBytes)),
      control: new Control(this.#inputs, firstOf(unit), most, limits.page),
      bounds: hostI32(3),
      bindings: new BindingCache(MAX_RANGES),
    }));
    const targets = this.#units.map(({ target }) => target);
    this.head = new PagedHead(source, this.#gpu, loader, limits.maxRows, targets, { areas: this.#inputs, first: HEAD });
  }

  devices(): PlacedDevice[] {
    const units = this.#units.map(({ entry }) => entry.name);
    const info = this.device.info();
    return info === null ? [] : [{ ...info, units, ...(this.plan && { plan: this.plan }) }];
  }

  exitIndex(layer: number): number {
    return exitIndexOf(this, layer);
  }

  get bytesPerPosition(): number {
    return allocatedPerPosition(this.manifest);
  }

  /** Uploads the control data of a run and starts it. Nothing waits for its end. */
  run({ ids, units, head }: PagedRun): void {
    this.#used.fill(0);
    /** The unit whose control a unit's runs read. */
    const owners = new Map<number, number>();
    for (const { unit, kernel, parts, like } of units) {
      const { control } = this.#unit(unit);
      // A captured graph reads the addresses of its first run, and a filled batch is wider than its parts.
      const owner = like === null || isReplayed(kernel, parts) ? unit : (owners.get(like) ?? unit);
      owners.set(unit, owner);
      if (owner !== unit) continue;
      if (isReplayed(kernel, parts)) control.fillBucket(parts, this.limits.pages);
      else control.fill(parts);
      this.#use(control.first, control.used);
    }
    writeLongs(this.#ids, ids);
    this.#use(IDS, [ids.length * 8]);
    if (head !== null) this.#use(HEAD, this.head.fill(head.rows, head.norms));
    this.#inputs.upload(this.#used);

    if (ids.length > 0) this.#runEmbed(ids.length);
    for (const { unit, kernel, parts } of units) this.#runUnit(unit, owners.get(unit) ?? unit, kernel, parts);
    if (head !== null) this.head.logits(head.rows.length);
  }

  /** Waits for the end of all runs, by a transfer. The head's `choose` waits by its own. */
  wait(): void {
    this.device.download(itemAt(this.boundaries, 0).memory, new Uint8Array(8));
  }

  dispose(): void {
    this.#embedBindings.dispose();
    for (const { bindings } of this.#units) bindings.dispose();
    this.head.dispose();
    this.#embed.dispose();
    disposeUnits([...this.stages, ...this.exits.flatMap(({ block }) => block ?? [])]);
    this.#loader.dispose();
    this.device.dispose();
  }

  /** Pages of each KV buffer, with one for the positions that fill a bucket. */
  get #cacheDims(): number[] {
    const { pages, page } = this.limits;
    const { kvHeads, headDim } = this.manifest.architecture;
    return [pages + 1, page, kvHeads, headDim];
  }

  get #bufferBytes(): number {
    return this.#cacheDims.reduce((product, dim) => product * dim, elementBytes(this.manifest.floatType));
  }

  #use(first: number, bytes: readonly number[]): void {
    for (let i = 0; i < bytes.length; i++) this.#used[first + i] = bytes[i] ?? 0;
  }

  #unit(unit: number): PagedUnit {
    return itemAt(this.#units, unit);
  }

  #runEmbed(tokens: number): void {
    const target = itemAt(this.boundaries, 0);
    this.#embedBindings.run(String(tokens), () =>
      this.#embed.bind({
        hostInputs: {},
        inputs: { ids: this.#gpu.at(this.#inputs.addresses[IDS] ?? 0n, [tokens], 'i64') },
        outputs: { hidden: target.tensor(tokens) },
      }),
    );
  }

  #runUnit(index: number, owner: number, kernel: StageKernel, parts: readonly BatchPart[]): void {
    const unit = this.#unit(index);
    const { control } = this.#unit(owner);
    const session = sessionOf(unit, kernel);
    const isGraph = isReplayed(kernel, parts);
    const shape = isGraph ? control.shape : { ...sizesOf(parts), pages: control.shape.pages };
    const { tokens, pages } = shape;
    const isLong = writeBounds(unit, parts, isGraph, this.limits.capacity);
    const form = isGraph ? (isLong ? 'long' : 'short') : 'eager';
    unit.bindings.run(`${kernel}/${form}/${owner}/${tokens}/${shape.parts}/${pages}`, () =>
      session.bind({
        // A graph for each number of rows, and for short and for long sequences.
        ...(isGraph && { graph: unit.firstGraph + 2 * tokens + Number(isLong) }),
        ...this.#tensorsOf(unit, control, shape),
      }),
    );
  }

  #tensorsOf({ source, target, buffers, bounds }: PagedUnit, control: Control, { tokens, parts, pages }: BatchShape) {
    const gpu = this.#gpu;
    const caches = (suffix: string): Record<string, Tensor> =>
      Object.fromEntries(
        buffers.map((buffer, i) => [
          `${i % 2 === 0 ? 'k' : 'v'}${suffix}_${i >> 1}`,
          gpu.at(buffer, this.#cacheDims, this.manifest.floatType),
        ]),
      );
    const rowsOf = ({ isPaged }: HiddenStore): bigint => (isPaged ? control.rows : this.#places);
    return {
      hostInputs: { bounds: bounds.tensor(this.environment, [3]) },
      inputs: {
        store: source.tensor(),
        next: target.tensor(),
        rows_in: gpu.at(rowsOf(source), [tokens], 'i64'),
        rows_out: gpu.at(rowsOf(target), [tokens, 1], 'i64'),
        cumulative: gpu.at(control.cumulative, [parts + 1], 'i32'),
        pasts: gpu.at(control.pasts, [parts], 'i32'),
        table: gpu.at(control.table, [parts, pages], 'i32'),
        ...caches(''),
      },
      outputs: { next_out: target.tensor(), ...caches('_out') },
    };
  }
}

/** @throws RangeError if there is none */
function itemAt<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`a model part of number ${index} does not exist`);
  return item;
}

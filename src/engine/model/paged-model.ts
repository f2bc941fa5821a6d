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
import { type Session, BindingCache, MAX_RANGES } from '../runtime/session.js';
import { at } from '../../util/at.js';
import { elementBytes, hostI32 } from '../runtime/tensor.js';
import { blocksOf, bytesPerPosition, cacheHeads } from './memory.js';
import { type BatchPart, Control, intsOf, writeLongs, type AreaPlan, hasKeys, planAreas } from './control.js';
import {
  disposeUnits,
  GraphLoader,
  type Model,
  type ModelSource,
  type ModelUnit,
  type PlacedDevice,
  sessionOf,
} from './graphs.js';
import { GpuTensors, type HiddenStore, openStores } from './hidden-store.js';
import type { StageKernel, Manifest } from './manifest.js';
import { type MemoryPlan, MOST_PARTS, mostTokens, type PagedLimits, tablePages } from './memory-plan.js';
import { headSizes, PagedHead, type WantedRow } from './paged-head.js';
import { PagedKeys } from './paged-keys.js';
import {
  isReplayed,
  openPlaces,
  type PagedMemory,
  type PagedUnit,
  sizesOf,
  unitTensors,
  writeBounds,
} from './paged-unit.js';

/** The work of a run, by unit index, or by the number of a unit's keys graphs (`keysOf`). */
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
  /** Their numbers follow those of the units. */
  readonly #keys: readonly PagedKeys[];
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
    const blocks = blocksOf(this);
    this.maxTokens = mostTokens(limits);

    this.#gpu = new GpuTensors(environment, device);
    const stores = openStores(this.#gpu, manifest, { paged: limits.pages * limits.page, batch: this.maxTokens });
    this.boundaries = stores.boundaries;
    this.blocks = stores.blocks;
    const most = { tokens: this.maxTokens, parts: Math.min(limits.maxRows, MOST_PARTS), pages: tablePages(limits) };
    const units = [...this.stages, ...blocks];
    const before = [this.maxTokens * 8, ...headSizes(limits.maxRows, units.length)];
    const areas = planAreas(before, units, most);
    this.#inputs = device.allocInputs(areas.sizes);
    this.#used = areas.sizes.map(() => 0);
    this.#ids = intsOf(this.#inputs, IDS);
    this.#places = openPlaces(device, this.maxTokens);
    const controlOf = (number: number) => new Control(this.#inputs, areas.control(number), most, limits.page);
    this.#units = units.map((unit, number) => this.#openUnit(unit, number, controlOf(number)));
    this.#keys = this.#openKeys(controlOf, areas);
    const targets = this.#units.map(({ target }) => target);
    this.head = new PagedHead(source, this.#gpu, loader, limits.maxRows, targets, { areas: this.#inputs, first: HEAD });
  }

  devices(): PlacedDevice[] {
    const units = this.#units.map(({ entry }) => entry.name);
    const info = this.device.info();
    return info === null ? [] : [{ ...info, units, ...(this.plan && { plan: this.plan }) }];
  }

  /** The number of a unit's keys graphs in a run; null: it has none. */
  keysOf(unit: number): number | null {
    const place = this.#keys.findIndex((keys) => keys.unit === this.#units[unit]);
    return place < 0 ? null : this.#units.length + place;
  }

  get bytesPerPosition(): number {
    return bytesPerPosition(this.manifest);
  }

  /** Uploads the control data of a run and starts it. Nothing waits for its end. */
  run({ ids, units, head }: PagedRun): void {
    this.#used.fill(0);
    /** The unit whose control a unit's runs read. */
    const owners = new Map<number, number>();
    for (const { unit, kernel, parts, like } of units) {
      const control = this.#control(unit);
      const keys = this.#keysAt(unit);
      const isFilled = keys === null && isReplayed(kernel, parts);
      if (keys !== null) this.#use(keys.area, [keys.place(parts)]);
      // A captured graph reads the addresses of its first run, and a filled batch is wider than its parts.
      const owner = like === null || isFilled ? unit : (owners.get(like) ?? unit);
      owners.set(unit, owner);
      if (owner !== unit) continue;
      if (isFilled) control.fillBucket(parts, this.limits.pages);
      else control.fill(parts);
      this.#use(control.first, control.used);
    }
    writeLongs(this.#ids, ids);
    this.#use(IDS, [ids.length * 8]);
    if (head !== null) this.#use(HEAD, this.head.fill(head.rows, head.norms));
    this.#inputs.upload(this.#used);

    if (ids.length > 0) this.#runEmbed(ids.length);
    for (const { unit, kernel, parts } of units) {
      const owner = owners.get(unit) ?? unit;
      const keys = this.#keysAt(unit);
      if (keys === null) this.#runUnit(unit, owner, kernel, parts);
      else keys.run(kernel, this.#control(owner), owner, sizesOf(parts).tokens);
    }
    if (head !== null) this.head.logits(head.rows.length);
  }

  /** Waits for the end of all runs, by a transfer. The head's `choose` waits by its own. */
  wait(): void {
    this.device.download(at(this.boundaries, 0).memory, new Uint8Array(8));
  }

  dispose(): void {
    this.#embedBindings.dispose();
    for (const { bindings } of this.#units) bindings.dispose();
    for (const keys of this.#keys) keys.dispose();
    this.head.dispose();
    this.#embed.dispose();
    disposeUnits([...this.stages, ...blocksOf(this)]);
    this.#loader.dispose();
    this.device.dispose();
  }

  get #memory(): PagedMemory {
    const { pages, page } = this.limits;
    // One page more, for the positions that fill a bucket.
    return { gpu: this.#gpu, pages: [pages + 1, page], type: this.manifest.floatType, places: this.#places };
  }

  #openUnit({ entry, sessions, keys }: ModelUnit, unit: number, control: Control): PagedUnit {
    const isStage = unit < this.stages.length;
    const heads = cacheHeads(entry, this.manifest.architecture);
    const positions = (this.limits.pages + 1) * this.limits.page * elementBytes(this.manifest.floatType);
    return {
      entry,
      ...(keys && { keys }),
      source: at(this.boundaries, entry.boundary),
      target: isStage ? at(this.boundaries, unit + 1) : at(this.blocks, unit - this.stages.length),
      sessions,
      firstGraph: unit * 2 * (this.maxTokens + 1),
      buffers: heads.flatMap(([count, dim]) => [0, 1].map(() => this.device.alloc(positions * count * dim))),
      heads,
      control,
      bounds: hostI32(3),
      bindings: new BindingCache(MAX_RANGES),
    };
  }

  #openKeys(controlOf: (number: number) => Control, { positions }: AreaPlan): PagedKeys[] {
    return this.#units.filter(hasKeys).map((unit, place) => {
      const control = controlOf(this.#units.length + place);
      return new PagedKeys(unit, { areas: this.#inputs, control, area: positions(place) }, this.#memory);
    });
  }

  #use(first: number, bytes: readonly number[]): void {
    for (let i = 0; i < bytes.length; i++) this.#used[first + i] = bytes[i] ?? 0;
  }

  #unit(unit: number): PagedUnit {
    return at(this.#units, unit);
  }

  #keysAt(number: number): PagedKeys | null {
    return this.#keys[number - this.#units.length] ?? null;
  }

  #control(number: number): Control {
    return (this.#keysAt(number) ?? this.#unit(number)).control;
  }

  #runEmbed(tokens: number): void {
    const target = at(this.boundaries, 0);
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
    const control = this.#control(owner);
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
        ...unitTensors(unit, control, shape, this.#memory),
      }),
    );
  }
}

/**
 * A loaded sorted model whose KV cache has pages, on a GPU: the caches of every unit, and one store of hidden states.
 *
 * A run takes any mix of chunks and single positions. Its control data goes to the device in one upload, then every graph
 * runs without a wait. States never move: a graph gathers its rows from the store and scatters its results to it.
 *
 * Must not know: sequences, depth policy, sampling.
 */
import type { Gpu, Upload } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import type { Session } from '../runtime/session.js';
import { elementBytes, Tensor } from '../runtime/tensor.js';
import { BindingCache, MAX_RANGES } from './binding-cache.js';
import { CardStore, type Crossing, layStores, type Region, sendAll } from './card-store.js';
import { Control, type UnitBatch } from './control.js';
import {
  disposeUnits,
  exitIndexOf,
  GraphLoader,
  type Model,
  type ModelSource,
  type ModelUnit,
  type PlacedCard,
} from './graphs.js';
import { isCaptured, type StageKernel, type Manifest } from './manifest.js';
import { allocatedPerPosition, storeRegions } from './memory.js';
import { PagedHead } from './paged-head.js';
import { MOST_PARTS, mostTokens, type PagedLimits, tablePages } from './paged-limits.js';

/** The work of a run, by unit index. */
export interface PagedRun {
  /** Token ids that the first stage embeds; its batch has their rows. */
  readonly ids: readonly number[];
  /** Units in the order in which they run. */
  readonly units: readonly { readonly unit: number; readonly kernel: StageKernel; readonly batch: UnitBatch }[];
  /** Rows of the store whose logits the head leaves in its rows, with their norms; null: none. */
  readonly head: { readonly rows: readonly number[]; readonly norms: readonly number[] } | null;
}

interface PagedUnit {
  readonly name: string;
  /** Store of the GPU that the unit lies on. */
  readonly store: CardStore;
  /** Store with the states that the unit reads: another one for the first stage of a later GPU. */
  readonly source: CardStore;
  readonly sessions: ReadonlyMap<StageKernel, Session>;
  /** Loops share a session, and each captures graphs of its own. */
  readonly firstGraph: number;
  /** K and V of layer i are buffers 2i and 2i + 1. */
  readonly buffers: readonly bigint[];
  readonly control: Control;
  readonly bindings: BindingCache;
}

export class PagedModel implements Model {
  readonly device: Gpu;
  readonly manifest: Manifest;
  readonly environment: Environment;
  readonly stages: readonly ModelUnit[];
  readonly exits: Model['exits'];
  readonly kernelFaults: readonly string[];
  readonly gate = null;
  readonly head: PagedHead;
  /** Where the states of each boundary lie; boundary 0 holds embeddings. */
  readonly boundaries: readonly Region[];
  /** Where each exit block's states lie, by its place among the blocks. */
  readonly blocks: readonly Region[];
  /** Most positions of a unit in a run. */
  readonly maxTokens: number;
  readonly #loaders: readonly GraphLoader[];
  readonly #units: readonly PagedUnit[];
  readonly #embed: Session;
  readonly #embedBindings = new BindingCache(MAX_RANGES);
  /** One for each GPU. */
  readonly #stores: readonly CardStore[];
  /** GPUs whose work no download has waited for. */
  readonly #unfinished = new Set<CardStore>();
  readonly #ids: bigint;

  /**
   * Loads all graphs.
   * @param trunk GPU of each stage, in order of depth; the embedding lies on the first GPU, the head on the last
   * @throws OrtError that names the graph, RangeError if the memory does not suffice
   */
  constructor(
    source: ModelSource,
    gpus: readonly Gpu[],
    readonly limits: PagedLimits,
    trunk: readonly number[],
  ) {
    const { manifest, environment } = source;
    this.manifest = manifest;
    this.environment = environment;
    this.device = itemAt(gpus, 0);
    const graphs = new GraphLoader(source, this.device);
    const loaders = gpus.map((gpu, card) => (card === 0 ? graphs : new GraphLoader(source, gpu, graphs)));
    const cards = storeRegions(manifest, trunk);
    const cardOf = [...trunk, ...cards.blocks.map(({ card }) => card)];
    this.#embed = graphs.session(manifest.embed);
    this.stages = manifest.stages.map((entry, stage) => itemAt(loaders, itemAt(trunk, stage)).unit(entry));
    this.exits = manifest.exits.map((entry) => ({
      entry,
      block: entry.block && itemAt(loaders, itemAt(trunk, entry.block.boundary - 1)).unit(entry.block),
    }));
    this.kernelFaults = graphs.kernelFaults;
    const blocks = this.exits.flatMap(({ block }) => block ?? []);
    this.maxTokens = mostTokens(limits);

    const rows = layStores(manifest, trunk, { paged: limits.pages * limits.page, batch: this.maxTokens });
    this.boundaries = rows.boundaries;
    this.blocks = rows.blocks;
    this.#stores = rows.stores.map((own, card) => {
      const mostSent = card < rows.stores.length - 1 ? this.maxTokens : 0;
      return new CardStore(environment, itemAt(gpus, card), manifest, own, mostSent);
    });
    this.#ids = this.device.alloc(this.maxTokens * 8);
    const most = { tokens: this.maxTokens, parts: Math.min(limits.maxRows, MOST_PARTS), pages: tablePages(limits) };
    this.#units = [...this.stages, ...blocks].map(({ entry, sessions }, unit) => {
      const store = itemAt(this.#stores, itemAt(cardOf, unit));
      return {
        name: entry.name,
        store,
        source: itemAt(this.#stores, itemAt(cards.boundaries, entry.boundary).card),
        sessions,
        firstGraph: unit * (this.maxTokens + 1),
        buffers: Array.from({ length: 2 * entry.layers }, () => store.device.alloc(this.#bufferBytes)),
        control: new Control(store.device, most, limits.capacity),
        bindings: new BindingCache(MAX_RANGES),
      };
    });
    this.#loaders = loaders;
    const last = itemAt(this.#stores, this.#stores.length - 1);
    const loader = itemAt(loaders, this.#stores.length - 1);
    this.head = new PagedHead(source, last.device, loader, limits.maxRows, () => last.tensor());
  }

  cards(): PlacedCard[] {
    return this.#stores.flatMap((store) => {
      const units = this.#units.filter((unit) => unit.store === store).map(({ name }) => name);
      return store.device.cards().map((card) => ({ ...card, units }));
    });
  }

  exitIndex(layer: number): number {
    return exitIndexOf(this, layer);
  }

  get bytesPerPosition(): number {
    return allocatedPerPosition(this.manifest);
  }

  /** Uploads the control data of a run and starts it. Nothing waits for its end. */
  run({ ids, units, head }: PagedRun): void {
    this.head.hasWaited = false;
    const first = itemAt(this.#stores, 0);
    const last = itemAt(this.#stores, this.#stores.length - 1);
    const uploads = new Map(this.#stores.map((store): [CardStore, Upload[]] => [store, []]));
    const put = (store: CardStore, ...more: Upload[]): void => {
      uploads.get(store)?.push(...more);
    };
    for (const { unit, kernel, batch } of units) {
      const { control, store, source } = this.#unit(unit);
      const isSent = source !== store;
      if (isSent) put(source, source.fill('stage', source.own(batch.rowsIn)));
      const rowsIn = isSent ? batch.rowsIn.map((_, i) => i) : store.own(batch.rowsIn);
      const own = { parts: batch.parts, rowsIn, rowsOut: store.own(batch.rowsOut) };
      const spare = { row: store.spareRow, page: this.limits.pages };
      put(store, ...(isReplayed(kernel, batch) ? control.fillBucket(own, spare) : control.fill(own)));
    }
    if (ids.length > 0)
      put(first, { target: this.#ids, source: new Uint8Array(BigInt64Array.from(ids, BigInt).buffer) });
    const { sent, rows } = sendAll(this.#stores, head?.rows ?? []);
    for (const each of sent) put(each.store, each.store.fill('head', each.rows));
    if (head !== null) put(last, ...this.head.fill(rows, head.norms));
    for (const [{ device }, own] of uploads) if (own.length > 0) device.upload(own);

    if (ids.length > 0) {
      this.#runEmbed(ids.length);
      this.#unfinished.add(first);
    }
    for (const { unit, kernel, batch } of units) {
      const { store, source } = this.#unit(unit);
      if (source !== store) this.#send('stage', source, batch.rowsIn.length);
      this.#unfinished.add(store);
      this.#runUnit(this.#unit(unit), kernel, isReplayed(kernel, batch));
    }
    if (head === null) return;
    for (const each of sent) this.#send('head', each.store, each.rows.length);
    this.head.logits(head.rows.length);
    this.#unfinished.add(last);
  }

  /** Waits for the end of all runs. The head's download has waited for the last GPU. */
  wait(): void {
    if (this.head.hasWaited) this.#unfinished.delete(itemAt(this.#stores, this.#stores.length - 1));
    for (const { device, memory } of this.#unfinished) device.download(memory, new Uint8Array(8));
    this.#unfinished.clear();
  }

  dispose(): void {
    this.#embedBindings.dispose();
    for (const { bindings } of this.#units) bindings.dispose();
    this.head.dispose();
    for (const store of this.#stores) store.dispose();
    disposeUnits([...this.stages, ...this.exits.flatMap(({ block }) => block ?? [])]);
    this.#embed.dispose();
    for (const loader of this.#loaders) loader.dispose();
    for (const { device } of this.#stores) device.dispose();
  }

  get #cacheDims(): number[] {
    const { kvHeads, headDim } = this.manifest.architecture;
    // Behind the pages of sequences lies a spare one.
    return [this.limits.pages + 1, this.limits.page, kvHeads, headDim];
  }

  get #bufferBytes(): number {
    return this.#cacheDims.reduce((a, b) => a * b, elementBytes(this.manifest.floatType));
  }

  #unit(unit: number): PagedUnit {
    return itemAt(this.#units, unit);
  }

  /** Sends states to the next GPU, whose later work then comes after all work so far of the sender. */
  #send(crossing: Crossing, store: CardStore, count: number): void {
    const next = itemAt(this.#stores, this.#stores.indexOf(store) + 1);
    store.send(crossing, count, next);
    this.#unfinished.delete(store);
    this.#unfinished.add(next);
  }

  #runEmbed(tokens: number): void {
    const { control, store } = this.#unit(0);
    this.#embedBindings.run(String(tokens), () =>
      this.#embed.bind({
        hostInputs: {},
        inputs: {
          store: store.tensor(),
          ids: store.at(this.#ids, [tokens], 'i64'),
          rows_out: store.at(control.rowsIn, [tokens, 1], 'i64'),
        },
        outputs: { store_out: store.tensor() },
      }),
    );
  }

  #runUnit(
    { store, sessions, firstGraph, buffers, control, bindings }: PagedUnit,
    kernel: StageKernel,
    isGraph: boolean,
  ): void {
    const session = sessions.get(kernel);
    if (!session) throw new RangeError(`no unit has the kernel ${kernel}`);
    const { tokens, parts, pages } = control.shape;
    const caches = (suffix: string): Record<string, Tensor> =>
      Object.fromEntries(
        buffers.map((buffer, i) => [
          `${i % 2 === 0 ? 'k' : 'v'}${suffix}_${i >> 1}`,
          store.at(buffer, this.#cacheDims, this.manifest.floatType),
        ]),
      );
    bindings.run(`${kernel}/${isGraph}/${tokens}/${parts}/${pages}`, () =>
      session.bind({
        ...(isGraph && { graph: firstGraph + tokens }),
        hostInputs: {
          bounds: new Tensor(this.environment, this.environment.hostMemory, control.bounds.address, [2], 'i32'),
        },
        inputs: {
          store: store.tensor(),
          rows_in: store.at(control.rowsIn, [tokens], 'i64'),
          rows_out: store.at(control.rowsOut, [tokens, 1], 'i64'),
          cumulative: store.at(control.cumulative, [parts + 1], 'i32'),
          pasts: store.at(control.pasts, [parts], 'i32'),
          table: store.at(control.table, [parts, pages], 'i32'),
          ...caches(''),
        },
        outputs: { store_out: store.tensor(), ...caches('_out') },
      }),
    );
  }
}

/** Whether a captured graph runs the batch: one of decoding, whose shapes come back. */
function isReplayed(kernel: StageKernel, { parts }: UnitBatch): boolean {
  return isCaptured(kernel) && parts.every(({ count }) => count === 1);
}

/** @throws RangeError if there is none */
function itemAt<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`a model part of number ${index} does not exist`);
  return item;
}

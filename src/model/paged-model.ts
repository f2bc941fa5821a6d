/**
 * A loaded sorted model whose KV cache has pages, on a GPU: the caches of every unit, and one store of hidden states.
 *
 * A run takes any mix of chunks and single positions. Its control data goes to the device in one upload, then every graph
 * runs without a wait. States never move: a graph gathers its rows from the store and scatters its results to it.
 *
 * Must not know: sequences, depth policy, sampling.
 */
import type { Device, Upload } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import type { Session } from '../runtime/session.js';
import { elementBytes, Tensor } from '../runtime/tensor.js';
import { BindingCache, MAX_RANGES } from './binding-cache.js';
import { Control, type UnitBatch } from './control.js';
import {
  disposeUnits,
  exitIndexOf,
  GraphLoader,
  type Model,
  type ModelLimits,
  type ModelSource,
  type ModelUnit,
} from './graphs.js';
import type { StageKernel, Manifest } from './manifest.js';
import { allocatedPerPosition, keptBoundaries, stateBytes } from './memory.js';
import { PagedHead } from './paged-head.js';

/** Positions of prompts that a unit runs together, at least: with fewer a GPU waits for the weights. */
const BATCH = 256;

/** Most sequences in a run: the limit of the CUDA provider's PagedAttention. */
export const MOST_PARTS = 256;

export interface PagedLimits extends ModelLimits {
  /** Pages of each KV buffer. */
  readonly pages: number;
  /** Positions of a page. */
  readonly page: number;
}

/** Rows of the store. */
export interface Region {
  /** First row. */
  readonly base: number;
  /** Whether a position's row follows from its page; otherwise from its place in the batch. */
  readonly isPaged: boolean;
}

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
  readonly sessions: ReadonlyMap<StageKernel, Session>;
  /** K and V of layer i are buffers 2i and 2i + 1. */
  readonly buffers: readonly bigint[];
  readonly control: Control;
  readonly bindings: BindingCache;
}

export class PagedModel implements Model {
  readonly manifest: Manifest;
  readonly environment: Environment;
  readonly stages: readonly ModelUnit[];
  readonly exits: Model['exits'];
  readonly kernelFaults: readonly string[];
  readonly head: PagedHead;
  /** Where the states of each boundary lie; boundary 0 holds embeddings. */
  readonly boundaries: readonly Region[];
  /** Where each exit block's states lie, by its place among the blocks. */
  readonly blocks: readonly Region[];
  /** Most positions of a unit in a run. */
  readonly maxTokens: number;
  readonly #graphs: GraphLoader;
  readonly #units: readonly PagedUnit[];
  readonly #embed: Session;
  readonly #embedBindings = new BindingCache(MAX_RANGES);
  readonly #store: bigint;
  readonly #storeRows: number;
  readonly #storeBytes: number;
  readonly #ids: bigint;

  /** Loads all graphs. @throws OrtError that names the graph, RangeError if the memory does not suffice */
  constructor(
    source: ModelSource,
    readonly device: Device,
    readonly limits: PagedLimits,
  ) {
    const { manifest, environment } = source;
    this.manifest = manifest;
    this.environment = environment;
    const graphs = new GraphLoader(source, device);
    this.#embed = graphs.session(manifest.embed);
    this.stages = manifest.stages.map((entry) => graphs.unit(entry));
    this.exits = manifest.exits.map((entry) => ({ entry, block: entry.block && graphs.unit(entry.block) }));
    this.kernelFaults = graphs.kernelFaults;
    const blocks = this.exits.flatMap(({ block }) => block ?? []);
    this.maxTokens = mostTokens(limits);

    const kept = keptBoundaries(manifest);
    let rows = 0;
    const region = (isPaged: boolean): Region => {
      const base = rows;
      rows += isPaged ? limits.pages * limits.page : this.maxTokens;
      return { base, isPaged };
    };
    this.boundaries = [null, ...this.stages].map((_, boundary) => region(boundary > 0 && kept.has(boundary)));
    this.blocks = blocks.map(() => region(false));
    this.#storeRows = rows;
    this.#storeBytes = rows * stateBytes(manifest);
    this.#store = device.alloc(this.#storeBytes);
    this.#ids = device.alloc(this.maxTokens * 8);
    const most = { tokens: this.maxTokens, parts: Math.min(limits.maxRows, MOST_PARTS), pages: tablePages(limits) };
    this.#units = [...this.stages, ...blocks].map(({ entry, sessions }) => ({
      sessions,
      buffers: Array.from({ length: 2 * entry.layers }, () => device.alloc(this.#bufferBytes)),
      control: new Control(device, most),
      bindings: new BindingCache(MAX_RANGES),
    }));
    this.#graphs = graphs;
    this.head = new PagedHead(source, device, graphs, limits.maxRows, () => this.#storeTensor());
  }

  exitIndex(layer: number): number {
    return exitIndexOf(this, layer);
  }

  get bytesPerPosition(): number {
    return allocatedPerPosition(this.manifest);
  }

  /** Uploads the control data of a run and starts it. Nothing waits for its end. */
  run({ ids, units, head }: PagedRun): void {
    const uploads: Upload[] = units.flatMap(({ unit, batch }) => this.#unit(unit).control.fill(batch));
    if (ids.length > 0)
      uploads.push({ target: this.#ids, source: new Uint8Array(BigInt64Array.from(ids, BigInt).buffer) });
    if (head !== null) uploads.push(...this.head.fill(head.rows, head.norms));
    this.device.upload(uploads);
    if (ids.length > 0) this.#runEmbed(ids.length);
    for (const { unit, kernel } of units) this.#runUnit(this.#unit(unit), kernel);
    if (head !== null) this.head.logits(head.rows.length);
  }

  /** Waits for the end of all runs. */
  wait(): void {
    this.device.download(this.#ids, new Uint8Array(8));
  }

  dispose(): void {
    this.#embedBindings.dispose();
    for (const { buffers, control, bindings } of this.#units) {
      bindings.dispose();
      control.dispose();
      for (const buffer of buffers) this.device.free(buffer, this.#bufferBytes);
    }
    this.head.dispose();
    this.device.free(this.#store, this.#storeBytes);
    this.device.free(this.#ids, this.maxTokens * 8);
    disposeUnits([...this.stages, ...this.exits.flatMap(({ block }) => block ?? [])]);
    this.#embed.dispose();
    this.#graphs.dispose();
  }

  get #cacheDims(): number[] {
    const { kvHeads, headDim } = this.manifest.architecture;
    return [this.limits.pages, this.limits.page, kvHeads, headDim];
  }

  get #bufferBytes(): number {
    return this.#cacheDims.reduce((a, b) => a * b, elementBytes(this.manifest.floatType));
  }

  #unit(unit: number): PagedUnit {
    const found = this.#units[unit];
    if (!found) throw new RangeError(`unit ${unit} does not exist`);
    return found;
  }

  #runEmbed(tokens: number): void {
    const { control } = this.#unit(0);
    this.#embedBindings.run(String(tokens), () =>
      this.#embed.bind({
        hostInputs: {},
        inputs: {
          store: this.#storeTensor(),
          ids: this.#tensor(this.#ids, [tokens], 'i64'),
          rows_out: this.#tensor(control.rowsIn, [tokens, 1], 'i64'),
        },
        outputs: { store_out: this.#storeTensor() },
      }),
    );
  }

  #runUnit({ sessions, buffers, control, bindings }: PagedUnit, kernel: StageKernel): void {
    const session = sessions.get(kernel);
    if (!session) throw new RangeError(`no unit has the kernel ${kernel}`);
    const { tokens, parts, pages } = control.shape;
    const caches = (suffix: string): Record<string, Tensor> =>
      Object.fromEntries(
        buffers.map((buffer, i) => [
          `${i % 2 === 0 ? 'k' : 'v'}${suffix}_${i >> 1}`,
          this.#tensor(buffer, this.#cacheDims, this.manifest.floatType),
        ]),
      );
    bindings.run(`${kernel}/${tokens}/${parts}/${pages}`, () =>
      session.bind({
        hostInputs: {
          bounds: new Tensor(this.environment, this.environment.hostMemory, control.bounds.address, [2], 'i32'),
        },
        inputs: {
          store: this.#storeTensor(),
          rows_in: this.#tensor(control.rowsIn, [tokens], 'i64'),
          rows_out: this.#tensor(control.rowsOut, [tokens, 1], 'i64'),
          cumulative: this.#tensor(control.cumulative, [parts + 1], 'i32'),
          pasts: this.#tensor(control.pasts, [parts], 'i32'),
          table: this.#tensor(control.table, [parts, pages], 'i32'),
          ...caches(''),
        },
        outputs: { store_out: this.#storeTensor(), ...caches('_out') },
      }),
    );
  }

  #storeTensor(): Tensor {
    return this.#tensor(this.#store, [this.#storeRows, this.manifest.architecture.hidden], this.manifest.floatType);
  }

  #tensor(memory: bigint, dims: readonly number[], type: 'f16' | 'f32' | 'i32' | 'i64'): Tensor {
    return new Tensor(this.environment, this.device.memoryInfo, memory, dims, type);
  }
}

/** Most positions of a unit in a run: those of prompts, and one of each row. */
export function mostTokens({ maxChunk, maxRows }: Pick<ModelLimits, 'maxChunk' | 'maxRows'>): number {
  return Math.max(maxChunk, BATCH) + maxRows;
}

/** Most pages of a sequence. */
function tablePages({ capacity, page }: PagedLimits): number {
  return Math.ceil(capacity / page);
}

/** The keys graphs of a unit behind a prompt exit, in pages: they write its KV caches and run none of its layers. */
import type { InputAreas } from '../runtime/device.js';
import { type BindingSpec, type Session, BindingCache, MAX_RANGES } from '../runtime/session.js';
import { type BatchPart, type Control, intsOf, writeLongs } from './control.js';
import { sessionOf } from './graphs.js';
import type { StageKernel } from './manifest.js';
import { cacheTensors, type PagedMemory, type PagedUnit } from './paged-unit.js';

export class PagedKeys {
  readonly control: Control;
  /** Index of the area of positions, i64. */
  readonly area: number;
  readonly #bindings = new BindingCache(MAX_RANGES);
  readonly #areas: InputAreas;
  readonly #memory: PagedMemory;

  constructor(
    readonly unit: PagedUnit,
    { areas, control, area }: { readonly areas: InputAreas; readonly control: Control; readonly area: number },
    memory: PagedMemory,
  ) {
    this.control = control;
    this.area = area;
    this.#areas = areas;
    this.#memory = memory;
  }

  /** Writes the positions of a batch. @returns their bytes */
  place(parts: readonly BatchPart[]): number {
    const positions = parts.flatMap(({ past, count }) => Array.from({ length: count }, (_, i) => past + i));
    writeLongs(intsOf(this.#areas, this.area), positions);
    return positions.length * 8;
  }

  /** Runs a batch that is on the device. @param control has the rows of the batch @param owner names it */
  run(kernel: StageKernel, control: Control, owner: number, tokens: number): void {
    const { entry, keys = new Map<StageKernel, Session>() } = this.unit;
    this.#bindings.run(`${kernel}/${owner}/${tokens}`, () =>
      sessionOf({ entry, sessions: keys }, kernel).bind(this.#tensors(control, tokens)),
    );
  }

  dispose(): void {
    this.#bindings.dispose();
  }

  #tensors({ rows }: Control, tokens: number): BindingSpec {
    const { source, entry, heads } = this.unit;
    const { gpu, pages } = this.#memory;
    // KV buffers as rows of positions.
    const dimsOf = (cache: number): number[] => {
      const [count = 0, dim = 0] = heads[cache] ?? [];
      return [pages[0] * pages[1], count * dim];
    };
    if (!source.isPaged) throw new RangeError(`the boundary of ${entry.name} must be stored`);
    const inputs = {
      store: source.tensor(),
      rows_in: gpu.at(rows, [tokens], 'i64'),
      positions: gpu.at(this.#areas.addresses[this.area] ?? 0n, [1, tokens], 'i64'),
      rows: gpu.at(rows, [tokens, 1], 'i64'),
      ...cacheTensors(this.unit, '', this.#memory, dimsOf),
    };
    return { hostInputs: {}, inputs, outputs: cacheTensors(this.unit, '_out', this.#memory, dimsOf) };
  }
}

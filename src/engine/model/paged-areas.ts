/** The input areas of a paged model: a control for each unit and each keys graph, and the positions of the latter. */
import { type BatchShape, CONTROL_AREAS, controlSizes } from './control.js';
import type { ModelUnit } from './graphs.js';

/** Indices of areas. The numbers of keys graphs follow those of the units. */
export interface AreaPlan {
  /** Bytes of all areas. */
  readonly sizes: readonly number[];
  /** First area of the control of a number. */
  readonly control: (number: number) => number;
  /** Area of the positions of a keys graph, i64. @param place among the keys graphs */
  readonly positions: (place: number) => number;
}

export function hasKeys({ keys }: Pick<ModelUnit, 'keys'>): boolean {
  return keys !== undefined;
}

/** @param before bytes of the areas in front @param most sizes of the largest batch */
export function planAreas(before: readonly number[], units: readonly ModelUnit[], most: BatchShape): AreaPlan {
  const keys = units.filter(hasKeys);
  const control = (number: number): number => before.length + number * CONTROL_AREAS;
  return {
    sizes: [...before, ...[...units, ...keys].flatMap(() => controlSizes(most)), ...keys.map(() => most.tokens * 8)],
    control,
    positions: (place) => control(units.length + keys.length) + place,
  };
}

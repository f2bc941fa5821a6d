/** Copies to areas of device memory that lie together, as one copy. Pure. */
import type { Upload } from './device.js';

/** Inputs that lie together. */
export interface Area {
  readonly start: bigint;
  readonly end: bigint;
}

/** Joins the copies to an area of inputs into one: nothing reads the bytes between them. */
export function joined(copies: readonly Upload[], areas: readonly Area[]): Upload[] {
  const groups = new Map<Area | Upload, Upload[]>();
  for (const copy of copies) {
    const key = areas.find(({ start, end }) => start <= copy.target && copy.target < end) ?? copy;
    groups.set(key, [...(groups.get(key) ?? []), copy]);
  }
  return [...groups.values()].flatMap((group) => {
    const [first, last] = [group[0], group.at(-1)];
    if (first === undefined || last === undefined || first === last) return group;
    const offset = ({ target }: Upload): number => Number(target - first.target);
    const source = new Uint8Array(offset(last) + last.source.byteLength);
    for (const copy of group) source.set(copy.source, offset(copy));
    return [{ target: first.target, source }];
  });
}

/** Names of the parts of a split GGUF model, which llama.cpp numbers like `name-00001-of-00003.gguf`. */

const PART = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;

/** The part that a file name states; numbers count from 1. */
export interface GgufPart {
  /** The path in front of the number. */
  readonly stem: string;
  readonly number: number;
  readonly count: number;
}

/** @returns null for a name without the number of a part */
export function ggufPart(path: string): GgufPart | null {
  const [, stem, ...numbers] = PART.exec(path) ?? [];
  const [number = 0, count = 0] = numbers.map(Number);
  return stem === undefined || number < 1 || number > count ? null : { stem, number, count };
}

/** The paths of all parts of the model that a file belongs to, in order: the file alone if it is no part. */
export function ggufPaths(path: string): readonly [string, ...string[]] {
  const part = ggufPart(path);
  if (part === null) return [path];
  const { stem, count } = part;
  const digits = (number: number): string => String(number).padStart(5, '0');
  const pathOf = (number: number): string =>
    `${stem}-${digits(number)}-of-${digits(count)}${path.slice(-'.gguf'.length)}`;
  return [pathOf(1), ...Array.from({ length: count - 1 }, (_, i) => pathOf(i + 2))];
}

/** JSON nested deeper than JSON.stringify can write. */

type Kind = 'arrays' | 'objects';

/** A placeholder for a value of this depth, which `asText` replaces. */
export const nested = (depth: number, kind: Kind = 'arrays'): string => `nested ${depth} ${kind}`;

function levels(depth: number, kind: Kind): string {
  const [open, close] = kind === 'arrays' ? ['[', ']'] : ['{"a":', '}'];
  return `${open.repeat(depth)}1${close.repeat(depth)}`;
}

/** A body as JSON, with the values of `nested` in place. */
export function asText(body: unknown): string {
  return JSON.stringify(body).replace(/"nested (\d+) (\w+)"/g, (_, depth, kind: Kind) => levels(Number(depth), kind));
}

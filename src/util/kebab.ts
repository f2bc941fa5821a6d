/** The name of a field as flags and files write it: `prefillChunk` as `prefill-chunk`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

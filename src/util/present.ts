/** The fields of an object that always have a value, and as optional ones those that may be null or undefined. */
export type Present<T> = {
  [K in keyof T as Extract<T[K], null | undefined> extends never ? K : never]: T[K];
} & {
  [K in keyof T as Extract<T[K], null | undefined> extends never ? never : K]?: NonNullable<T[K]>;
};

/** The object without its fields that are null or undefined. */
export function present<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null)) as Present<T>;
}

/** Where a JSON schema holds others. Knows: keywords of all drafts that the library reads. Must not know: what they ask. */

export type SchemaObject = Readonly<Record<string, unknown>>;

/** Schemas, or lists of them. */
const DIRECT = new Set(['items', 'additionalItems', 'prefixItems', 'additionalProperties', 'anyOf', 'oneOf', 'allOf']);
/** Schemas by name. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions']);

export function isSchemaObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * A copy of a schema with other schemas in it. Values that are no schemas, such as `const` and `examples`, stay.
 * @param each of a schema right below, with its place: "items", "anyOf[1]", "properties.name"
 */
export function mapSchemas(schema: SchemaObject, each: (schema: unknown, place: string) => unknown): SchemaObject {
  const replaced = (key: string, value: unknown): unknown => {
    if (DIRECT.has(key)) {
      return Array.isArray(value) ? value.map((item, index) => each(item, `${key}[${index}]`)) : each(value, key);
    }
    if (!NAMED.has(key) || !isSchemaObject(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, each(item, `${key}.${name}`)]));
  };
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, replaced(key, value)]));
}

/**
 * What the JSON pointer at the end of a `$ref` points at, whatever document is named before it.
 * @param root what "#" means
 * @returns undefined where there is nothing, and for a reference by another name
 */
export function referred(ref: unknown, root: unknown): unknown {
  const fragment = typeof ref === 'string' ? /#((?:\/.*)?)$/su.exec(ref)?.[1] : undefined;
  if (fragment === undefined) return undefined;
  let value = root;
  for (const step of fragment.split('/').slice(1)) {
    if (typeof value !== 'object' || value === null) return undefined;
    const key = unescaped(step);
    value = Object.hasOwn(value, key) ? (value as SchemaObject)[key] : undefined;
  }
  return value;
}

/** A step of a JSON pointer in a URI. */
function unescaped(step: string): string {
  let text = step;
  try {
    text = decodeURIComponent(step);
  } catch {
    // No escape then.
  }
  return text.replaceAll('~1', '/').replaceAll('~0', '~');
}

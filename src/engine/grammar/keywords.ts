/** Walks the schemas within a JSON schema. Knows: keywords of all drafts that the library reads, not their rules. */

export type SchemaObject = Readonly<Record<string, unknown>>;

/** Schemas, or lists of them. */
const DIRECT = new Set(['items', 'additionalItems', 'prefixItems', 'additionalProperties', 'anyOf', 'oneOf', 'allOf']);
/** Schemas by name. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions']);

export function isSchemaObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Copies a schema with its subschemas replaced. Values that are not schemas, such as `const` and `examples`, stay.
 * @param each replaces a direct subschema; `place` is its path: "items", "anyOf[1]", "properties.name"
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
 * Resolves the JSON pointer at the end of a `$ref`. The document in front of it is ignored.
 * @param root value of "#"
 * @returns undefined if the pointer leads nowhere, and for a reference by another name
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

/** Decodes a step of a JSON pointer in a URI. */
function unescaped(step: string): string {
  let text = step;
  try {
    text = decodeURIComponent(step);
  } catch {
    // The step holds no valid escape sequence.
  }
  return text.replaceAll('~1', '/').replaceAll('~0', '~');
}

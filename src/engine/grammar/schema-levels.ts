/**
 * How many schemas of a document lie within each other, references followed.
 *
 * Knows: who holds whom. Must not know: keywords, limits.
 */
import { isSchemaObject, type SchemaObject } from './keywords.js';

/** What leads on from a schema. */
export interface SchemaNode {
  /** As a caller reads it; '' for the document. */
  readonly place: string;
  /** Schemas right below it. */
  readonly parts: unknown[];
  /** What its `$ref` may mean. */
  readonly targets: SchemaObject[];
}

/** A schema during Tarjan's search for circles. */
interface Visit {
  readonly node: SchemaNode;
  readonly index: number;
  /** Least index that it leads back to. */
  low: number;
  /** Levels from here on; 0 while its circle is not known. */
  levels: number;
}

/**
 * An upper bound of the longest way through the schemas that enters none twice. Circles can be entered anywhere, so all
 * of a circle's schemas count together, however it is entered; ways between circles are exact.
 */
export function levelsOf(nodes: ReadonlyMap<SchemaObject, SchemaNode>): number {
  const visits = new Map<SchemaObject, Visit>();
  const meant = new Set([...nodes.values()].flatMap(({ targets }) => targets));
  const open: SchemaObject[] = [];
  const visit = (schema: SchemaObject, node: SchemaNode): Visit => {
    const own: Visit = { node, index: visits.size, low: visits.size, levels: 0 };
    visits.set(schema, own);
    const begin = open.push(schema) - 1;
    for (const next of [...node.parts, ...node.targets]) {
      const nextNode = isSchemaObject(next) ? nodes.get(next) : undefined;
      if (nextNode === undefined) continue;
      const reached = visits.get(next as SchemaObject) ?? visit(next as SchemaObject, nextNode);
      // What is done has levels, and leads back to nobody here.
      if (reached.levels === 0) own.low = Math.min(own.low, reached.low);
    }
    if (own.low === own.index) {
      const circle = open.splice(begin);
      const levels = lengthOf(circle, visits, meant) + deepest(circle, visits);
      for (const each of circle) {
        const done = visits.get(each);
        if (done) done.levels = levels;
      }
    }
    return own;
  };
  let levels = 0;
  for (const [schema, node] of nodes) levels = Math.max(levels, (visits.get(schema) ?? visit(schema, node)).levels);
  return levels;
}

/**
 * How many schemas of a circle can lie within each other. A way through it is a row of pieces, each from what some
 * reference means down to a reference, and enters none twice: every piece counts as deep as it gets.
 */
function lengthOf(
  circle: readonly SchemaObject[],
  visits: ReadonlyMap<SchemaObject, Visit>,
  meant: ReadonlySet<SchemaObject>,
): number {
  const members = new Set<unknown>(circle);
  const heightOf = (schema: unknown): number => {
    if (!members.has(schema)) return 0;
    const { parts = [] } = visits.get(schema as SchemaObject)?.node ?? {};
    return 1 + Math.max(0, ...parts.map(heightOf));
  };
  const pieces = circle.reduce((sum, each) => sum + (meant.has(each) ? heightOf(each) : 0), 0);
  return Math.max(1, Math.min(circle.length, pieces));
}

/** Levels below a circle whose ways out are all done. */
function deepest(circle: readonly SchemaObject[], visits: ReadonlyMap<SchemaObject, Visit>): number {
  let levels = 0;
  for (const each of circle) {
    const { parts = [], targets = [] } = visits.get(each)?.node ?? {};
    for (const next of [...parts, ...targets]) {
      const below = isSchemaObject(next) ? (visits.get(next)?.levels ?? 0) : 1;
      levels = Math.max(levels, below);
    }
  }
  return levels;
}

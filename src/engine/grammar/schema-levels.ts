/**
 * Counts the nested schemas of a document, with references followed. It knows no keywords and no limits.
 */
import { isSchemaObject, type SchemaObject } from './keywords.js';

/** A schema and the schemas that it leads to. */
export interface SchemaNode {
  /** Path in the document, for messages; '' for the document itself. */
  readonly place: string;
  /** Direct subschemas. */
  readonly parts: unknown[];
  /** Schemas that its `$ref` may refer to. */
  readonly targets: SchemaObject[];
}

/** A schema in Tarjan's search for cycles (strongly connected components). */
interface Visit {
  readonly node: SchemaNode;
  readonly index: number;
  /** Least index of a schema that it leads back to. */
  low: number;
  /** Levels below and including this schema; 0 while its cycle is incomplete. */
  levels: number;
}

/**
 * An upper bound of the longest path through the schemas that enters no schema twice. A path may enter a cycle at any
 * schema, so all schemas of a cycle count together. Between cycles the count is exact.
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
      // A schema with levels is finished and cannot lead back to this one.
      if (reached.levels === 0) own.low = Math.min(own.low, reached.low);
    }
    if (own.low === own.index) {
      const cycle = open.splice(begin);
      const levels = lengthOf(cycle, visits, meant) + deepest(cycle, visits);
      for (const each of cycle) {
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
 * Most schemas of a cycle on one path. A path through a cycle is a sequence of pieces. Each piece goes from the target
 * of a reference down to the next reference, and counts with its greatest depth.
 */
function lengthOf(
  cycle: readonly SchemaObject[],
  visits: ReadonlyMap<SchemaObject, Visit>,
  meant: ReadonlySet<SchemaObject>,
): number {
  const members = new Set<unknown>(cycle);
  const heightOf = (schema: unknown): number => {
    if (!members.has(schema)) return 0;
    const { parts = [] } = visits.get(schema as SchemaObject)?.node ?? {};
    return 1 + Math.max(0, ...parts.map(heightOf));
  };
  const pieces = cycle.reduce((sum, each) => sum + (meant.has(each) ? heightOf(each) : 0), 0);
  return Math.max(1, Math.min(cycle.length, pieces));
}

/** Levels below a cycle whose other successors are finished. */
function deepest(cycle: readonly SchemaObject[], visits: ReadonlyMap<SchemaObject, Visit>): number {
  let levels = 0;
  for (const each of cycle) {
    const { parts = [], targets = [] } = visits.get(each)?.node ?? {};
    for (const next of [...parts, ...targets]) {
      const below = isSchemaObject(next) ? (visits.get(next)?.levels ?? 0) : 1;
      levels = Math.max(levels, below);
    }
  }
  return levels;
}

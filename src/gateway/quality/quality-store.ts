/**
 * Keeps the evidence of audits in the cache folder, so that a restarted server goes on with its estimates.
 *
 * Must not know: how estimates are made.
 */
import { join } from 'node:path';
import { nullable, Type } from '../../util/schema.js';
import { StoredValue } from '../../util/stored-value.js';
import type { ExitQuality } from './exit-quality.js';

const sum = Type.Number({ minimum: 0 });
const schemaOf = (model: string) =>
  Type.Object({
    version: Type.Literal(1),
    /** SHA-256 of the manifest. */
    model: Type.Literal(model),
    cells: Type.Array(
      Type.Object({
        kind: Type.String(),
        key: nullable(Type.String()),
        exits: Type.Array(Type.Object({ answers: sum, agreement: sum })),
      }),
    ),
  });

/**
 * @param model SHA-256 of the manifest
 * @param failed gets the reason of a failed read or write, for the log
 */
export function qualityStore(dir: string, model: string, quality: ExitQuality, failed: (reason: string) => void) {
  return new StoredValue(join(dir, `quality-${model.slice(0, 24)}.json`), {
    schema: schemaOf(model),
    content: 'the evidence of audits of this model',
    writeMs: 30_000,
    value: () => ({ version: 1, model, cells: quality.cells() }),
    failed,
  });
}

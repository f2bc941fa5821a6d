/** The cost file of a simulation: a server's measured step times, and its exits with their quality. */
import { isValid, type Static, Type } from '../../src/util/schema.js';
import { CostTableSchema } from '../../src/engine/scheduler/cost/table.js';
import { validationMessage } from '../../src/util/validation-message.js';

export const CostFile = Type.Object({
  cost: CostTableSchema,
  shape: Type.Object({
    /** Cost units of the trunk stages, in order. */
    stages: Type.Array(Type.String(), { minItems: 1 }),
    exits: Type.Array(
      Type.Object({
        layer: Type.Integer({ minimum: 1 }),
        stage: Type.Integer({ minimum: 0 }),
        block: Type.Union([Type.String(), Type.Null()]),
        quality: Type.Number(),
        right: Type.Number(),
        promptDepth: Type.Optional(Type.Integer({ minimum: 1 })),
        rightByPrompt: Type.Optional(Type.Array(Type.Tuple([Type.Number(), Type.Number()]))),
      }),
      { minItems: 1 },
    ),
    /** Whether the last of the exits is full depth behind a prompt exit, and whether plans may choose it. */
    hasPromptExit: Type.Optional(Type.Boolean()),
    isPromptExitMeasured: Type.Optional(Type.Boolean()),
  }),
});
export type CostFile = Static<typeof CostFile>;

/** An unusable cost file; the message says where and why. */
export class CostFileError extends Error {
  override readonly name = 'CostFileError';
}

/** @throws CostFileError */
export function parseCostFile(text: string): CostFile {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new CostFileError(`the cost file must be JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (isValid(CostFile, parsed)) return parsed;
  throw new CostFileError(`the cost file: ${validationMessage(CostFile, parsed) ?? 'has the wrong shape'}`);
}

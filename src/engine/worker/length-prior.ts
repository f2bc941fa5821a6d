/**
 * The prior of output lengths in a model folder. If the folder has no usable prior, the router uses its own, and the log
 * states the reason.
 *
 * Must not know: the log.
 */
import { Type } from '../../util/schema.js';
import { type Manifest, Lengths } from '../../model/manifest.js';
import { type LengthPrior, lengthPriorOf, priorFault } from '../../router/index.js';
import { validationMessage } from '../../util/validation-message.js';

export interface FolderPrior {
  /** Null: the router's own prior. */
  readonly prior: LengthPrior | null;
  /** Fault of the folder's prior; null if it is used. */
  readonly fault: string | null;
}

export function folderPrior({ exits }: Pick<Manifest, 'exits'>): FolderPrior {
  const without = (fault: string): FolderPrior => ({ prior: null, fault });
  const measured: { readonly lengths: Lengths }[] = [];
  for (const [i, { layer, lengths }] of exits.entries()) {
    if (lengths === undefined) return without(`exit ${layer} has no lengths`);
    const fault = validationMessage(Type.Object({ lengths: Lengths }), { lengths });
    if (fault !== null) return without(`/exits/${i}${fault}`);
    measured.push({ lengths: lengths as Lengths });
  }
  const prior = lengthPriorOf({ exits: measured });
  const fault = prior === null ? 'has no exits' : priorFault(prior, exits.length);
  return fault === null ? { prior, fault } : without(`the prior ${fault}`);
}

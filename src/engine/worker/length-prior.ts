/**
 * The prior of output lengths that a model folder brings. A folder without a usable one is served with the router's own
 * prior, and the log tells why.
 *
 * Knows: the manifest, the router's rules for a prior. Must not know: the log.
 */
import Type from 'typebox';
import { type Manifest, Lengths } from '../../model/manifest.js';
import { type LengthPrior, lengthPriorOf, priorFault } from '../../router/index.js';
import { validationMessage } from '../../util/validation-message.js';

export interface FolderPrior {
  /** Null: the router's own prior. */
  readonly prior: LengthPrior | null;
  /** What is wrong with the folder's prior; null for one that is used. */
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

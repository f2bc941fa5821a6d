/**
 * The prior of output lengths in a model folder. If the folder has no usable prior, the router uses its own, and the log
 * states the reason.
 *
 * Must not know: the log.
 */
import { Type } from '../../util/schema.js';
import { type Manifest, Lengths } from '../../model/manifest.js';
import type { LengthPrior } from '../../router/index.js';
import { validationMessage } from '../../util/validation-message.js';

export interface FolderPrior {
  /** Null: the router's own prior. */
  readonly prior: LengthPrior | null;
  /** Fault of the folder's prior; null if it is used. */
  readonly fault: string | null;
}

export function folderPrior({ exits }: Pick<Manifest, 'exits'>): FolderPrior {
  const without = (fault: string): FolderPrior => ({ prior: null, fault });
  if (exits.length === 0) return without('the prior has no exits');
  const prior: [number, number][][] = [];
  for (const [i, { layer, lengths }] of exits.entries()) {
    if (lengths === undefined) return without(`exit ${layer} has no lengths`);
    const fault = validationMessage(Type.Object({ lengths: Lengths }), { lengths });
    if (fault !== null) return without(`/exits/${i}${fault}`);
    const quantiles = (lengths as Lengths).chat.map(([share, tokens]): [number, number] => [share, tokens]);
    const disorder = quantilesFault(quantiles);
    if (disorder !== null) return without(`the prior ${disorder}`);
    prior.push(quantiles);
  }
  return { prior, fault: null };
}

/** The fault of the quantiles of one exit, or null. */
function quantilesFault(quantiles: LengthPrior[number]): string | null {
  if (quantiles.length === 0) return 'has an exit without quantiles';
  let [share, tokens] = [0, 0.5];
  for (const [nextShare, nextTokens] of quantiles) {
    if (!(nextShare > share && nextShare < 1))
      return `has the share ${nextShare} after ${share}; shares rise from 0 to 1`;
    if (!(nextTokens > tokens && nextTokens <= 1 << 17)) return `has ${nextTokens} tokens after ${tokens}; tokens rise`;
    [share, tokens] = [nextShare, nextTokens];
  }
  return null;
}

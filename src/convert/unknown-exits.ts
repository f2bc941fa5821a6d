/** The warning about early exits of unknown quality. */
import type { Manifest } from '../model/manifest.js';

/**
 * The loops of a looped model are its exits by training. An exit with a block was tuned, and an exit with a measured agreement is known. For any other exit the router assumes
 * a quality of its share of the layers. A model that was not tuned for that exit answers there with gibberish.
 * @returns null if every exit below full depth is known
 */
export function unknownExitsWarning({ architecture, exits }: Pick<Manifest, 'architecture' | 'exits'>): string | null {
  if (architecture.loops !== undefined) return null;
  const unknown = exits.slice(0, -1).filter(({ block, quality }) => block === null && quality.agreement === undefined);
  if (unknown.length === 0) return null;
  const layers = unknown.map(({ layer }) => layer).join(', ');
  return (
    `exits without a block and without a measured quality: ${layers}. Unless the model was tuned for them, answers from ` +
    'these exits make no sense, and the router still sends requests with a budget there. Measure the folder (npm run ' +
    'bench:quality) and convert again with --quality, or convert without --exits'
  );
}

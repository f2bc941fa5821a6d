/**
 * The warning that belongs to a folder with early exits of which nothing says that they answer well.
 *
 * Knows: the manifest. Must not know: how a conversion runs, how warnings are printed (command).
 */
import type { Manifest } from '../model/manifest.js';

/**
 * An exit with a block was tuned, and one with a measured agreement is known; of any other the router takes its share of
 * the layers as its quality, and sends requests there that a model never tuned for it answers with gibberish.
 * @returns null where there is no such exit below full depth
 */
export function unknownExitsWarning({ exits }: Pick<Manifest, 'exits'>): string | null {
  const unknown = exits.slice(0, -1).filter(({ block, quality }) => block === null && quality.agreement === undefined);
  if (unknown.length === 0) return null;
  const layers = unknown.map(({ layer }) => layer).join(', ');
  return (
    `exits without a block and without a measured quality: ${layers}. Unless the model was tuned for them, answers from ` +
    'there make no sense, and requests with a budget are sent there all the same. Measure the folder (npm run ' +
    'bench:quality) and convert again with --quality, or convert without --exits'
  );
}

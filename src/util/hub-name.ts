/** Names of models on the Hugging Face Hub, where a path is expected. */
import { existsSync } from 'node:fs';

const HUB_NAME = /^[\w.-]+\/[\w.-]+$/;

/** @returns how to fetch a model, if the missing path looks like ORG/NAME; else an empty text */
export function hubHint(missing: string): string {
  const [organisation = '', name = ''] = missing.split('/');
  // With an existing first folder, the text is a path of this machine.
  if (!HUB_NAME.test(missing) || existsSync(organisation)) return '';
  return (
    '; Sortie downloads nothing: if this is a name on the Hugging Face Hub, ' +
    `\`hf download ${missing} --local-dir ${name}\` fetches it and \`sortie convert ${name}\` converts it`
  );
}

/** Names of models on the Hugging Face Hub, where a path is expected. */
import { existsSync } from 'node:fs';

/** A model of the hub, `ORG/NAME`, `ORG/NAME@REVISION`, and either with `:FILE`. */
export interface HubName {
  /** `ORG/NAME`. */
  readonly repo: string;
  /** Branch, tag or commit; null if the text names none. */
  readonly revision: string | null;
  /** A GGUF file of the repository, or the end of its name such as `Q4_K_M`; null if the text names none. */
  readonly file: string | null;
}

/** A revision becomes a path in the cache, and must stay there. */
const HUB_NAME = /^(\w[\w.-]*)\/(\w[\w.-]*)(?:@((?!.*\.\.)\w[\w.+/-]*))?(?::([^:]+))?$/;

/** @returns the name, or null for another text and for a path of this machine: what exists wins over the hub */
export function parseHubName(text: string): HubName | null {
  const [, organisation, name, revision = null, file = null] = HUB_NAME.exec(text) ?? [];
  if (organisation === undefined || name === undefined) return null;
  // With an existing first folder, the text is a path with a mistake.
  if (existsSync(text) || existsSync(organisation)) return null;
  return { repo: `${organisation}/${name}`, revision, file };
}

/** @returns how to fetch a model, if the missing path looks like a name of the hub; else an empty text */
export function hubHint(missing: string): string {
  if (parseHubName(missing) === null) return '';
  return `; if this is a name on the Hugging Face Hub, \`sortie pull ${missing} --no-convert\` downloads it`;
}

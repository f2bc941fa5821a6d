/** The folders that defaults of options name. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package root: four levels above the folder of this file, compiled. */
export const packageRoot = fileURLToPath(new URL('../../../..', import.meta.url));

/** The default of --model. The npm package does not hold it. */
export const EMBEDDED_MODEL = join(packageRoot, 'models', 'smollm2-135m-sorted');

/**
 * The user's home folder. A numeric user, as in containers, may have none. The result is then `/`, where no cache is
 * written.
 */
function home(): string {
  try {
    // The result is empty if HOME is. A relative path would depend on the folder that the process runs in.
    return homedir() || '/';
  } catch {
    return '/';
  }
}

/** The cache folder by the XDG convention. */
export function defaultCacheDir(env: Readonly<Record<string, string | undefined>>): string {
  const base = env.XDG_CACHE_HOME;
  return join(base === undefined || base === '' ? join(home(), '.cache') : base, 'sortie');
}

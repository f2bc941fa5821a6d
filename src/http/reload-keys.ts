/** Reads the API keys again on SIGHUP, without a restart. */
import type { HttpContext } from './context.js';
import { type ApiKey, keepUnchanged } from './keys.js';

/**
 * Running answers of a removed key continue.
 * @param read reads and checks all keys; after an error the present keys stay
 * @returns a function that stops listening
 */
export function reloadKeysOnSignal(context: Pick<HttpContext, 'apiKeys' | 'log'>, read: () => ApiKey[]): () => void {
  const reload = (): void => {
    try {
      const before = context.apiKeys;
      const keys = keepUnchanged(before, read());
      context.apiKeys = keys;
      const changed = keys.filter((key) => !before.includes(key)).length;
      context.log.info({ keys: keys.length, changed }, 'API keys read again');
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      context.log.error({ reason }, 'the API keys are not changed, because they cannot be read');
    }
  };
  process.on('SIGHUP', reload);
  return () => {
    process.off('SIGHUP', reload);
  };
}

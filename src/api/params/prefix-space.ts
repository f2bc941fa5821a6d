/**
 * The space in which a prompt may share its prefix with other prompts.
 *
 * A shared prefix shows in `cached_tokens` and in the time to the first token. Across clients it would tell one client
 * about the prompts of another one.
 */
import { createHash } from 'node:crypto';
import type { Caller, Limits } from '../context.js';

/**
 * @param salt the request's `cache_salt`
 * @returns a digest of key and salt, which reveals neither; null for the common space
 */
export function prefixSpace(
  reuse: Limits['prefixReuse'],
  { keyId }: Pick<Caller, 'keyId'>,
  salt: string | undefined,
): string | null {
  const key = reuse === 'key' ? keyId : null;
  if (key === null && salt === undefined) return null;
  return createHash('sha256')
    .update(JSON.stringify([key, salt ?? null]))
    .digest('base64url');
}

/** The way to the hub: its address, the token and the cache folder, by the variables that other tools read too. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { HubError } from './hub-error.js';

const PUBLIC_HUB = 'https://huggingface.co';

type Variables = Readonly<Record<string, string | undefined>>;

export interface HubAccess {
  /** Address without a slash at the end. */
  readonly endpoint: string;
  readonly token: string | null;
  /** Folder of downloads, in the layout of the Hugging Face tools. */
  readonly cacheDir: string;
  /** Whether the hub must not be contacted. */
  readonly offline: boolean;
}

/** @throws HubError for an address that is none */
export function hubAccess(env: Variables): HubAccess {
  const of = (name: string): string | null => (env[name] === undefined || env[name] === '' ? null : env[name]);
  const endpoint = (of('HF_ENDPOINT') ?? PUBLIC_HUB).replace(/\/+$/, '');
  if (!/^https?:\/\//.test(endpoint) || !URL.canParse(endpoint))
    throw new HubError(`HF_ENDPOINT must be an address such as ${PUBLIC_HUB}, got "${endpoint}"`);
  const home = of('HF_HOME') ?? join(of('XDG_CACHE_HOME') ?? join(homeFolder(), '.cache'), 'huggingface');
  const token = of('HF_TOKEN')?.trim() ?? storedToken(of('HF_TOKEN_PATH') ?? join(home, 'token'));
  // The error of an invalid header would print it.
  if (token !== null && !/^[!-~]+$/.test(token)) throw new HubError('HF_TOKEN must be ASCII without spaces');
  return {
    endpoint,
    token,
    cacheDir: of('HF_HUB_CACHE') ?? join(home, 'hub'),
    offline: ['1', 'ON', 'YES', 'TRUE'].includes((of('HF_HUB_OFFLINE') ?? '').toUpperCase()),
  };
}

/** The token that `hf auth login` stored; null without one. */
function storedToken(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim() || null;
  } catch {
    return null;
  }
}

/** The home folder, or `/` for a numeric user without one. */
function homeFolder(): string {
  try {
    return homedir() || '/';
  } catch {
    return '/';
  }
}

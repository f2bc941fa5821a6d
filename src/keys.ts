/** API keys from the option and the file. Knows: one key a line, # for comments. Must not know: HTTP. */
import { readFileSync } from 'node:fs';
import { OptionError, type ServeOptions } from './config.js';

/** @throws OptionError when the file can't be read or holds no key: a server meant to be closed must not open. */
export function loadApiKeys({ apiKey, apiKeyFile }: Pick<ServeOptions, 'apiKey' | 'apiKeyFile'>): string[] {
  if (apiKeyFile === null) return [...apiKey];
  let text: string;
  try {
    text = readFileSync(apiKeyFile, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OptionError(`--api-key-file must be a readable file, got "${apiKeyFile}" (${code ?? 'unreadable'})`);
  }
  const keys = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length === 0) throw new OptionError(`--api-key-file must hold at least one key, got "${apiKeyFile}"`);
  return [...apiKey, ...keys];
}

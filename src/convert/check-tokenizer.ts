/**
 * Checks of a tokenizer before anything is written: that the server can load it and its chat template, that the model
 * has a row for each token that prompts are made of, that answers can end, and that there is a chat template.
 *
 * Knows: tokenizer.json. Must not know: how text is tokenized, file formats.
 */
import { ChatTemplate } from '../text/chat-template.js';
import { TextTokenizer } from '../text/tokenizer.js';
import { vocabularyEntries, type TokenizerJson } from '../text/token-bytes.js';
import { ConvertError } from './errors.js';
import type { SourceTokenizer } from './source.js';

type Json = TokenizerJson & { readonly post_processor?: unknown };

/** Tokens that a message names. */
const NAMED = 5;

/**
 * @param rows of the embedding
 * @returns warnings: what works, but not as one may expect
 * @throws ConvertError where the server could not load it, or ordinary prompts would hold tokens that the embedding has
 *   no row for
 */
export function checkTokenizer(tokenizer: SourceTokenizer, rows: number): string[] {
  const { chatTemplate } = tokenizer;
  const json = JSON.parse(tokenizer.json) as Json;
  loads('tokenizer', () => new TextTokenizer(json, rows));
  if (chatTemplate !== null) loads('chat template', () => new ChatTemplate(chatTemplate, {}));
  const warnings = checkIds(json, tokenizer, rows);
  if (!tokenizer.eosTokens.some((id) => id < rows))
    warnings.push('the source names no token that ends an answer: each will be as long as its request allows');
  if (chatTemplate === null)
    warnings.push('the source has no chat template, or several without a default: chat completions will be refused');
  return warnings;
}

/** What the server will do, done here: it then fails before the hours of a conversion, not after. */
function loads(what: string, load: () => unknown): void {
  try {
    load();
  } catch (cause) {
    throw new ConvertError(
      'unsupported_feature',
      `the source's ${what} must be one that the server can load, got: ${(cause as Error).message}`,
    );
  }
}

function checkIds(json: Json, { chatTemplate, bosToken, eosTokens }: SourceTokenizer, rows: number): string[] {
  const added = new Map((json.added_tokens ?? []).map(({ id, content }) => [id, content]));
  const beyond = new Map(
    [...vocabularyEntries(json.model.vocab).map(([text, id]) => [id, text] as const), ...added].filter(
      ([id]) => id >= rows,
    ),
  );
  if (beyond.size === 0) return [];
  const written = JSON.stringify(json.post_processor ?? null);
  const isUsed = (id: number, text: string): boolean =>
    !added.has(id) ||
    (chatTemplate?.includes(text) ?? false) ||
    written.includes(JSON.stringify(text)) ||
    id === bosToken ||
    id === eosTokens[0];
  const used = [...beyond].filter(([id, text]) => isUsed(id, text));
  const rule = `ids must be below the embedding's ${rows} rows`;
  if (used.length > 0)
    throw new ConvertError('bad_source', `the tokenizer's ${rule}, got ${named(used)}, which ordinary prompts hold`);
  return [`the tokenizer's ${rule}, got ${named([...beyond])}; prompts that hold one will be refused`];
}

function named(tokens: readonly (readonly [number, string])[]): string {
  const some = tokens.slice(0, NAMED).map(([id, text]) => `${JSON.stringify(text)} (${id})`);
  return `${some.join(', ')}${tokens.length > NAMED ? ` and ${tokens.length - NAMED} more` : ''}`;
}

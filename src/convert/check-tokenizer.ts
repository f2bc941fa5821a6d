/**
 * Checks a tokenizer before a conversion writes anything. The server must load it and its chat template. The embedding
 * must have a row for each token of an ordinary prompt. Answers must have an end token.
 */
import { ChatTemplate } from '../gateway/text/chat-template.js';
import { TextTokenizer } from '../gateway/text/tokenizer.js';
import { vocabularyEntries, type TokenizerJson } from '../gateway/text/token-bytes.js';
import { ConvertError } from './conversion-error.js';
import type { SourceTokenizer } from './source.js';

type Json = TokenizerJson & { readonly post_processor?: unknown };

/** Parts of texts that begin and end the pieces of tokenizers. */
const PROBES = ['a', 'A', '1', ' ', '\n', '!', 'é', '漢', 'aA', 'a1', ' \n', " '"];
const REPEATS = 2000;
/** A character that no expression expects: a match that needs the end of the text fails at it. */
const BREAK = '\u0001';

/** Most tokens that a message lists. */
const MAX_NAMED = 5;

/**
 * @param rows rows of the embedding
 * @returns warnings about limits that the served model will have
 * @throws ConvertError if the server cannot load it, or ordinary prompts hold tokens without a row in the embedding
 */
export function checkTokenizer(tokenizer: SourceTokenizer, rows: number): string[] {
  const { chatTemplate } = tokenizer;
  const json = JSON.parse(tokenizer.json) as Json;
  loads('tokenizer', () => {
    probe(new TextTokenizer(json, rows), json);
  });
  if (chatTemplate !== null) loads('chat template', () => new ChatTemplate(chatTemplate, {}));
  const warnings = checkIds(json, tokenizer, rows);
  if (!tokenizer.eosTokens.some((id) => id < rows))
    warnings.push('the source names no token that ends an answer: every answer will be as long as its request allows');
  if (chatTemplate === null)
    warnings.push('the source has no chat template, or several without a default: chat completions will be rejected');
  return warnings;
}

/**
 * Encodes texts of one repeated part. A regular expression of a tokenizer may take a time that is exponential in the
 * length of such a text; the characters of the expressions themselves are the likeliest.
 * @throws TimeLimitError
 */
function probe(tokenizer: TextTokenizer, { normalizer = null, pre_tokenizer: split = null }: Json): void {
  const written = JSON.stringify([normalizer, split]);
  if (!written.includes('"Regex"')) return;
  const parts = new Set([...PROBES, ...Array.from(written)]);
  for (const part of parts) tokenizer.encode(part.repeat(REPEATS) + BREAK, false);
}

/** Loads a part as the server does, so that a fault shows up here and not after hours of conversion. */
function loads(what: string, load: () => unknown): void {
  try {
    load();
  } catch (cause) {
    throw new ConvertError(
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
    throw new ConvertError(`the tokenizer's ${rule}, got ${named(used)}, which ordinary prompts hold`);
  return [`the tokenizer's ${rule}, got ${named([...beyond])}; prompts that hold one will be rejected`];
}

function named(tokens: readonly (readonly [number, string])[]): string {
  const some = tokens.slice(0, MAX_NAMED).map(([id, text]) => `${JSON.stringify(text)} (${id})`);
  return `${some.join(', ')}${tokens.length > MAX_NAMED ? ` and ${tokens.length - MAX_NAMED} more` : ''}`;
}

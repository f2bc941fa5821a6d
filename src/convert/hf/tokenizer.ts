/**
 * The tokenizer of a Hugging Face folder: tokenizer.json, and what is said of it elsewhere.
 *
 * Knows: tokenizer_config.json, generation_config.json and chat_template.jinja. Must not know: how text is tokenized.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { TokenizerJson } from '../../model/token-bytes.js';
import { ConvertError } from '../errors.js';
import type { SourceTokenizer } from '../source.js';
import { readJson, readOptionalJson, type Json } from './json.js';

/**
 * @param config of the model
 * @throws ConvertError where tokenizer.json is missing or malformed
 */
export function readTokenizer(folder: string, config: Json): SourceTokenizer {
  const file = path.join(folder, 'tokenizer.json');
  if (!existsSync(file)) throw new ConvertError('bad_source', `${folder} has no tokenizer.json`);
  const idOf = tokenIds(readJson(folder, 'tokenizer.json'), file);
  const settings = readOptionalJson(folder, 'tokenizer_config.json');
  const generation = readOptionalJson(folder, 'generation_config.json');
  const templateFile = path.join(folder, 'chat_template.jinja');
  const bos = [idOf(settings.bos_token), ...ids(generation.bos_token_id), ...ids(config.bos_token_id)];
  return {
    json: readFileSync(file, 'utf8'),
    chatTemplate: existsSync(templateFile)
      ? readFileSync(templateFile, 'utf8')
      : typeof settings.chat_template === 'string'
        ? settings.chat_template
        : null,
    bosToken: bos.find((id) => id !== null) ?? null,
    // The tokenizer's own is what a turn ends with, and what templates mean; the configs often name a text's end alone.
    eosTokens: [
      ...new Set([idOf(settings.eos_token), ...ids(generation.eos_token_id), ...ids(config.eos_token_id)]),
    ].filter((id) => id !== null),
  };
}

function ids(value: unknown): number[] {
  return (Array.isArray(value) ? value : [value]).filter((id) => typeof id === 'number');
}

/** From a token, as tokenizer_config.json writes it (its text, or an object of its content), to its id. */
function tokenIds(json: Json, file: string): (token: unknown) => number | null {
  const { model, added_tokens: added = [] } = json as unknown as Partial<TokenizerJson>;
  if (typeof model?.vocab !== 'object' || !Array.isArray(added))
    throw new ConvertError('bad_source', `${file} must hold a model with a vocab, and a list of added_tokens`);
  const { vocab } = model;
  const byText = new Map<string, number>();
  for (const { id, content } of added as NonNullable<TokenizerJson['added_tokens']>) byText.set(content, id);
  return (token) => {
    const text = typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
    return typeof text === 'string'
      ? (byText.get(text) ?? (Object.hasOwn(vocab, text) ? vocab[text] : null) ?? null)
      : null;
  };
}

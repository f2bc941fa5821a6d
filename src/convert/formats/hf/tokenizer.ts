/**
 * The tokenizer of a Hugging Face folder: tokenizer.json, with tokenizer_config.json, generation_config.json and
 * chat_template.jinja.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { isValid, type Static, Type } from '../../../util/schema.js';
import { vocabularyEntries, type TokenizerJson } from '../../../gateway/text/token-bytes.js';
import { validationMessage } from '../../../util/validation-message.js';
import { ConvertError } from '../../conversion-error.js';
import type { SourceTokenizer } from '../../source.js';
import { type Json, readJson, readOptionalJson, readOptionalText, readText } from './files.js';

/** Tables of tokens are as long as the largest id, so a damaged id would cost minutes and gigabytes. */
const Id = Type.Integer({ minimum: 0, maximum: 2 ** 24 });

/** The parts of tokenizer.json that the converter reads. */
const Parts = Type.Object({
  model: Type.Object({
    type: Type.Optional(Type.String()),
    vocab: Type.Union([Type.Record(Type.String(), Id), Type.Array(Type.Tuple([Type.String(), Type.Number()]))]),
    byte_fallback: Type.Optional(Type.Boolean()),
  }),
  added_tokens: Type.Optional(
    Type.Array(Type.Object({ id: Id, content: Type.String(), special: Type.Optional(Type.Boolean()) })),
  ),
});

const NamedTemplates = Type.Array(Type.Object({ name: Type.String(), template: Type.String() }));

/**
 * @param config config.json of the model
 * @throws ConvertError if tokenizer.json is missing or malformed
 */
export function readTokenizer(folder: string, config: Json): SourceTokenizer {
  const file = path.join(folder, 'tokenizer.json');
  if (!existsSync(file)) throw new ConvertError(`${folder} has no tokenizer.json`);
  const idOf = tokenIds(readJson(folder, 'tokenizer.json'), file);
  const settings = readOptionalJson(folder, 'tokenizer_config.json');
  const generation = readOptionalJson(folder, 'generation_config.json');
  const bos = [idOf(settings.bos_token), ...ids(generation.bos_token_id), ...ids(config.bos_token_id)];
  return {
    json: readText(folder, 'tokenizer.json'),
    chatTemplate: readTemplate(folder, settings),
    bosToken: bos.find((id) => id !== null) ?? null,
    // The tokenizer's token ends a turn, as templates expect; the configs often name only the token that ends a text.
    eosTokens: [
      ...new Set([idOf(settings.eos_token), ...ids(generation.eos_token_id), ...ids(config.eos_token_id)]),
    ].filter((id) => id !== null),
  };
}

/** The file wins, as in transformers. In a list of named templates only the default is for general use. */
function readTemplate(folder: string, { chat_template: template }: Json): string | null {
  const text = readOptionalText(folder, 'chat_template.jinja');
  if (text !== null) return text;
  if (typeof template === 'string') return template;
  if (!isValid(NamedTemplates, template)) return null;
  const chosen = template.length === 1 ? template[0] : template.find(({ name }) => name === 'default');
  return chosen?.template ?? null;
}

function ids(value: unknown): number[] {
  return (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isSafeInteger(id) && id >= 0);
}

/** Maps a token of tokenizer_config.json to its id. The token is a text, or an object with the text as content. */
function tokenIds(json: Json, file: string): (token: unknown) => number | null {
  const { model, added_tokens: added } = checked(json, file);
  const byText = new Map(vocabularyEntries(model.vocab));
  for (const { id, content } of added ?? []) byText.set(content, id);
  return (token) => {
    const text = typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
    return typeof text === 'string' ? (byText.get(text) ?? null) : null;
  };
}

/** Throws ConvertError for a model that @huggingface/tokenizers misreads or can't read. */
function checked(json: Json, file: string): TokenizerJson {
  const fault = validationMessage(Parts, json);
  if (fault !== null) throw new ConvertError(`${file}: ${fault}`);
  const { model } = json as Static<typeof Parts>;
  const { type = 'BPE' } = model;
  if (type !== (Array.isArray(model.vocab) ? 'Unigram' : 'BPE'))
    throw new ConvertError(`${file}: model must be BPE or Unigram, got ${type}`);
  // The library supports bytes in BPE only: it would read characters outside the vocabulary as unknown.
  if (type === 'Unigram' && model.byte_fallback === true)
    throw new ConvertError(`${file}: byte_fallback must be false for Unigram, got true`);
  return { decoder: null, ...(json as Omit<TokenizerJson, 'decoder'>) };
}

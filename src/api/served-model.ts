/**
 * The model as clients see it: name, exits, vocabulary and chat template.
 *
 * Must not know: weights, requests.
 */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ChatTemplate } from '../text/chat-template.js';
import type { ExitEntry, Generation } from '../model/manifest.js';
import { loadManifest, MANIFEST_FILE } from '../model/manifest-io.js';
import { TextTokenizer } from '../text/tokenizer.js';

export interface ServedModel {
  /** The first name, which metrics and the log have. */
  readonly name: string;
  /** Further names that requests may use; absent: none. */
  readonly aliases?: readonly string[];
  /** Unix seconds. */
  readonly created: number;
  readonly licence: string;
  /** Shallowest first; the last is full depth. */
  readonly exits: readonly Pick<ExitEntry, 'layer' | 'quality' | 'dry'>[];
  /** Layers of a loop, whose number names the exit of a looped model; absent: layers name the exits. */
  readonly loopLayers?: number;
  /** Sampling defaults of the manifest; empty without any. */
  readonly generation: Generation;
  readonly context: number;
  /** Ids that end an answer. */
  readonly eosTokens: readonly number[];
  readonly tokenizer: TextTokenizer;
  /** The tokenizer's file, which the encoding thread reads again. */
  readonly tokenizerFile: string;
  /** Null for a model without a chat template, whose chat requests are rejected. */
  readonly chat: ChatTemplate | null;
}

/** Makes a part of the model of a file's text. @throws Error that names the file */
function load<T>(file: string, make: (text: string) => T): T {
  try {
    return make(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new Error(`cannot read ${file}: ${(cause as Error).message}`);
  }
}

/**
 * @param names for requests; none: the manifest's name
 * @throws Error for a missing or malformed file of the folder; the message names it
 */
export function loadServedModel(dir: string, names: readonly string[] = []): ServedModel {
  const manifest = loadManifest(dir);
  const [name = manifest.name, ...aliases] = names;
  const tokenizerFile = join(dir, manifest.tokenizer);
  const { architecture, chatTemplate } = manifest;
  const tokenizer = load(tokenizerFile, (text) => new TextTokenizer(JSON.parse(text), architecture.vocab));
  const specials = {
    bos_token: manifest.bosToken === null ? '' : tokenizer.decode([manifest.bosToken], { special: true }),
    eos_token: tokenizer.decode(manifest.eosTokens.slice(0, 1), { special: true }),
  };
  return {
    name,
    aliases,
    created: Math.floor(statSync(join(dir, MANIFEST_FILE)).mtimeMs / 1000),
    licence: manifest.licence,
    exits: manifest.exits.map(({ layer, quality, dry }) => ({ layer, quality, ...(dry && { dry }) })),
    ...(architecture.loops && { loopLayers: architecture.layers }),
    generation: manifest.generation ?? {},
    context: architecture.context,
    eosTokens: manifest.eosTokens,
    tokenizer,
    tokenizerFile,
    chat: chatTemplate === null ? null : load(join(dir, chatTemplate), (text) => new ChatTemplate(text, specials)),
  };
}

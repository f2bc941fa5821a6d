/** Reads the model of clients from its folder. Must not know: weights, requests. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ChatTemplate } from '../text/chat-template.js';
import { loadManifest, MANIFEST_FILE } from '../../engine/model/manifest-io.js';
import { TextTokenizer } from '../text/tokenizer.js';
import type { ServedModel } from './served-model.js';

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

/** Model folders in the cache: conversions of models that the hub, a GGUF file or a Hugging Face folder holds. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { hubAccess } from '../convert/hub/repository.js';
import { pull, type Pulled } from '../convert/hub/pull.js';
import { OutExistsError } from '../convert/conversion-error.js';
import type { KernelName } from '../engine/model/manifest.js';
import { loadManifest, MANIFEST_FILE } from '../engine/model/manifest-io.js';
import { ggufPart, ggufPaths } from '../util/gguf-parts.js';
import { type HubName, parseHubName } from '../util/hub-name.js';
import { interruptible } from '../util/interruption.js';
import { complain } from './output.js';
import { pullDisplay } from './progress-display.js';

export interface Conversion {
  /** The folder of `--cache-dir`. */
  readonly cacheDir: string;
  readonly kernels: readonly KernelName[];
}

/**
 * The folder that a server loads: the model itself if it is one, else its conversion, which is made once. A conversion
 * of a model of the hub is used without a request to the hub.
 * @param model value of `--model`
 * @throws HubError, ConvertError or Interrupted
 */
export async function servedFolder(model: string, conversion: Conversion): Promise<string> {
  const name = parseHubName(model);
  if (name !== null) {
    const folder = hubFolder(name, conversion);
    return isConverted(folder) ? folder : await pullAndConvert(name, conversion);
  }
  return isSource(model) ? await convertLocal(model, conversion) : model;
}

/** Downloads a model of the hub. @throws HubError, ConvertError for another architecture, or Interrupted */
export async function download(name: HubName): Promise<Pulled> {
  const { readOutline } = await import('../convert/formats/hf/source.js');
  const { checkGgufHead } = await import('../convert/formats/gguf/reader.js');
  const access = hubAccess(process.env);
  if (!access.offline) complain(`asking ${access.endpoint} for ${name.repo}\n`);
  const display = pullDisplay(process.stderr);
  try {
    return await interruptible('the next `sortie pull` continues', (signal) =>
      pull(name, access, {
        signal,
        progress: display.progress,
        check: readOutline,
        checkHead: checkGgufHead,
      }),
    );
  } finally {
    display.stop();
  }
}

/**
 * Downloads the newest commit of a model, and converts it unless that was done.
 * @returns the folder
 * @throws HubError, ConvertError or Interrupted
 */
export async function pullAndConvert(name: HubName, conversion: Conversion): Promise<string> {
  const out = hubFolder(name, conversion);
  const { commit, path } = await download(name);
  const origin = `${name.repo}@${commit}${name.file === null ? '' : `:${basename(path)}`}`;
  if (isConverted(out) && loadManifest(out).origin === origin) return out;
  await convertTo(out, path, { name: name.repo, origin, kernels: conversion.kernels });
  return out;
}

function hubFolder({ repo, revision, file }: HubName, { cacheDir, kernels }: Conversion): string {
  const name = [repo, revision === null ? '' : `@${revision}`, file === null ? '' : `/${file}`].join('');
  return join(cacheDir, 'models', `${name.replaceAll('/', '--')}.${kernels.join('-')}`);
}

function isConverted(folder: string): boolean {
  return existsSync(join(folder, MANIFEST_FILE));
}

/** Whether the path is a GGUF file or a Hugging Face folder. */
function isSource(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return false;
  return found.isDirectory() ? !isConverted(path) && existsSync(join(path, 'config.json')) : true;
}

/** A changed source has another folder. */
async function convertLocal(source: string, { cacheDir, kernels }: Conversion): Promise<string> {
  // The path itself names the model, and the other parts of a split one: it may be a link to a file named by a
  // checksum.
  const path = resolve(source);
  const files = statSync(path).isDirectory() ? readdirSync(path).map((name) => join(path, name)) : ggufPaths(path);
  const states = files
    .filter((file) => existsSync(file))
    .map((file) => {
      const { size, mtimeMs } = statSync(file);
      return [realpathSync(file), size, mtimeMs];
    });
  const digest = createHash('sha256').update(JSON.stringify(states.sort())).digest('hex').slice(0, 12);
  const name = basename(ggufPart(path)?.stem ?? path)
    .replace(/\.gguf$/i, '')
    .replaceAll(/[^\w.-]/g, '-');
  const out = join(cacheDir, 'models', `${name}-${digest}.${kernels.join('-')}`);
  if (!isConverted(out)) await convertTo(out, path, { name, kernels });
  return out;
}

async function convertTo(
  out: string,
  source: string,
  options: { readonly name: string; readonly kernels: readonly KernelName[]; readonly origin?: string },
): Promise<void> {
  complain(`converting ${source} to ${out}\n`);
  const { convertCommand } = await import('../convert/convert-command.js');
  const isNew = !isConverted(out);
  try {
    await convertCommand({ ...options, source, out, compress: false, force: !isNew }, process.stderr);
  } catch (error) {
    // Another process may have converted it in the meantime.
    if (!(isNew && error instanceof OutExistsError && isConverted(out))) throw error;
  }
}

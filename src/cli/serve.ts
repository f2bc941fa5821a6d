/** `sortie serve`: its flags are the table of options. */
import cluster from 'node:cluster';
import { Option, type Command } from 'commander';
import { helpText, loadOptions, ON_OFF, type OptionSpec, SERVE_OPTIONS, type ServeOptions } from './options/config.js';
import { storedKernel } from '../engine/model/manifest.js';

function optionOf(spec: OptionSpec<unknown>): Option {
  const { placeholder } = spec.kind;
  const flag = `--${spec.flag} ${placeholder === ON_OFF ? `[${placeholder}]` : `<${placeholder}>`}`;
  const option = new Option(flag, helpText(spec)).helpGroup(`${spec.group}:`);
  // The help shows them. resolveOptions checks them.
  if (spec.kind.values !== undefined) option.argChoices = [...spec.kind.values];
  // Commander reads a flag that starts with --no- as the negation of another option. These flags are options
  // themselves.
  option.negate = false;
  return option;
}

/** The folder of the local model, converted where it is none. */
async function folderOf({ model, kernels, device, cacheDir }: ServeOptions): Promise<string> {
  const served = kernels ?? [device.kind === 'cpu' ? 'w8a8' : 'fp16'];
  const { servedFolder } = await import('./cached-model.js');
  return servedFolder(model, { cacheDir, kernels: [...new Set(served.map(storedKernel))] });
}

/**
 * Adds `serve`.
 * @param version of Sortie, as in package.json
 * @param finish takes the exit code
 */
export function addServe(root: Command, version: string, finish: (code: number) => void): void {
  const serve = root.command('serve').description('serve a model folder with the API of OpenAI');
  // Commander passes these values on as text. cli/options holds the rules of flags and variables alike.
  for (const spec of Object.values(SERVE_OPTIONS)) serve.addOption(optionOf(spec));
  serve.action(async (flags: Record<string, string | true>) => {
    // A switch without a value means "on".
    const texts = Object.fromEntries(Object.entries(flags).map(([key, flag]) => [key, flag === true ? 'on' : flag]));
    const options = await loadOptions(texts, process.env);
    const model = options.noLocal ? options.model : await folderOf(options);
    if (options.noLocal && options.threads > 1 && cluster.isPrimary) {
      const { superviseWorkers } = await import('../gateway/serve/workers.js');
      finish(await superviseWorkers(options));
      return;
    }
    const { serveForever } = await import('../gateway/serve/serve.js');
    finish(await serveForever({ ...options, model }, version));
  });
}

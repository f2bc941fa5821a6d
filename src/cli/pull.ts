/** `sortie pull`: downloads a model of the Hugging Face Hub, and converts it for `serve`. */
import type { Command } from 'commander';
import { OptionError, SERVE_OPTIONS } from './options/config.js';
import type { KernelName } from '../engine/model/manifest.js';
import { parseHubName } from '../util/hub-name.js';
import { output } from './output.js';
import { ruleOf } from './values.js';

interface PullFlags {
  readonly kernels: readonly KernelName[];
  readonly cacheDir: string;
  readonly convert: boolean;
}

/** Adds `pull`. */
export function addPull(root: Command): void {
  const { cacheDir, kernels } = SERVE_OPTIONS;
  root
    .command('pull <name>')
    .description(
      'download ORG/NAME[@REVISION][:FILE] from the Hugging Face Hub, convert it for serve, print the folder',
    )
    .option('--kernels <list>', 'kernels of the conversion', ruleOf(kernels), ['w8a8'])
    .option(
      '--cache-dir <dir>',
      'the same as of serve',
      ruleOf(cacheDir),
      process.env.SORTIE_CACHE_DIR ?? cacheDir.default,
    )
    .option('--no-convert', 'only download, and print the path for `sortie convert`')
    .action(async (text: string, flags: PullFlags) => {
      const name = parseHubName(text);
      if (name === null)
        throw new OptionError(
          `the name must be ORG/NAME, ORG/NAME@REVISION or either with :FILE, and no path, got "${text}"`,
        );
      const { download, pullAndConvert } = await import('./cached-model.js');
      const path = flags.convert ? await pullAndConvert(name, flags) : (await download(name)).path;
      output().write(`${path}\n`);
    });
}

/** The commands that write and check a model folder: `sortie convert` and `inspect`. */
import { Option, type Command } from 'commander';
import { kernelList, modelName } from './options/config.js';
import type { ConvertOptions } from '../convert/convert-options.js';
import { output } from './output.js';
import { exits, fraction, fractions, positive, ruleOf } from './values.js';

type ConvertFlags = Omit<ConvertOptions, 'source' | 'origin' | 'signal'>;

/** Adds `convert` and `inspect`. */
export function addModel(root: Command): void {
  addConvert(root);
  addInspect(root);
}

function addConvert(root: Command): void {
  root
    .command('convert <source>')
    .description('turn a GGUF file or a Hugging Face folder into a model folder')
    .requiredOption('--out <dir>', 'model folder to write')
    .option('--exits <layers>', 'trunk layers after which a sequence may leave, such as 10,20,30', exits)
    .option('--context <n>', "most positions of a sequence (default: the source's)", positive)
    .option(
      '--kernels <list>',
      'int4, w8a8, fp32; for GPUs fp16, w8a16 or w4a16; the preferred one first',
      ruleOf({ kind: kernelList }),
      ['w8a8'],
    )
    .option('--exit-blocks <file>', 'safetensors file of exit blocks')
    .option(
      '--calibration <file>',
      'safetensors file of measurements: smoothed w8a8 inputs, better rounding to 4 bits, KV in bytes',
    )
    .addOption(
      new Option('--kv <type>', 'KV cache in float, or in int8: a quarter of the memory, slower prefill').choices([
        'int8',
        'float',
      ]),
    )
    .option(
      '--weight-bits <n>',
      'bits used of the 8 of weights of w8a8 and w8a16, 5 to 8; fewer compress better',
      fraction,
    )
    .option('--quality <file>', 'JSON of measured quality per exit: {"15": {"kl": 1.1, "agreement": 0.6}}')
    .option(
      '--dry <rule>',
      'DRY penalty against loops at every exit: multiplier, base, allowed length, such as 8,2,3',
      fractions,
    )
    .option('--generation <list>', "sampling defaults, such as temperature=0.3,top_p=0.9; they win over the source's")
    .option('--name <name>', "name in the manifest (default: the folder's)", ruleOf({ kind: modelName }))
    .option('--compress', 'gzip the weight files', false)
    .option('--force', 'replace an existing model folder', false)
    .action(async (source: string, options: ConvertFlags) => {
      const { convertCommand } = await import('../convert/convert-command.js');
      await convertCommand({ source, ...options }, output());
    });
}

function addInspect(root: Command): void {
  root
    .command('inspect <dir>')
    .description('print what a model folder holds and verify its checksums')
    .action(async (dir: string) => {
      const { inspectCommand } = await import('../convert/convert-command.js');
      await inspectCommand(dir, output());
    });
}

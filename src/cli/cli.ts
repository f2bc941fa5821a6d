/**
 * The command line: `sortie serve | bench | pull | convert | inspect | openapi`.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 128 plus the signal's number after an interrupt.
 */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { addBench } from './bench.js';
import { addModel } from './model.js';
import { complain, output } from './output.js';
import { addPull } from './pull.js';
import { addServe } from './serve.js';
import { OptionError, packageRoot } from './options/config.js';
import { UsageError } from '../convert/conversion-error.js';
import { Interrupted } from '../util/interruption.js';

/** Exit code of wrong usage, by the convention of Unix tools. */
const USAGE_ERROR = 2;

export const VERSION = (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string })
  .version;

/**
 * Builds the commands in the order of the help. Each command loads its modules when it runs, so `serve` does not load
 * the converter.
 */
function program(finish: (code: number) => void): Command {
  const root = new Command('sortie')
    .description('LLM serving where depth is a dial: one sorted model, every depth, a latency budget per request')
    .version(VERSION)
    .configureOutput({ writeOut: (text) => output().write(text), writeErr: complain })
    .showHelpAfterError('(add --help for the options)');

  addServe(root, VERSION, finish);
  addBench(root, finish);
  addPull(root);
  addModel(root);

  root
    .command('openapi')
    .description('print the OpenAPI document of this server')
    .action(async () => {
      const { openapiDocument } = await import('../gateway/http/app.js');
      output().write(await openapiDocument(VERSION));
    });

  for (const command of [root, ...root.commands]) command.exitOverride();
  return root;
}

/** @returns the exit code */
export async function run(argv: readonly string[]): Promise<number> {
  let code = 0;
  const finish = (value: number): void => {
    code = value;
  };
  try {
    await program(finish).parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    // Commander prints its own errors. Help and version are not errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_ERROR;
    complain(`error: ${error instanceof Error ? error.message : String(error)}\n`);
    return exitCode(error);
  }
}

/** The exit code of the process for an error that a command threw. */
export function exitCode(error: unknown): number {
  if (error instanceof Interrupted) return 128 + constants.signals[error.signal];
  return error instanceof OptionError || error instanceof UsageError ? USAGE_ERROR : 1;
}

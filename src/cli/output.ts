/** Standard output and standard error of the commands, if their readers may be gone. */
import { constants } from 'node:os';

/**
 * A reader may close the pipe early. The command then exits as other tools do: silently, with SIGPIPE's
 * number.
 */
function outputLost({ code, message }: NodeJS.ErrnoException): void {
  if (code !== 'EPIPE') complain(`error: cannot write the output: ${message}\n`);
  process.exit(code === 'EPIPE' ? 128 + constants.signals.SIGPIPE : 1);
}

/**
 * Standard output of commands that print. `serve` must not use it: its log has its own writer, which survives the loss
 * of its reader. Node.js would also make the pipe non-blocking.
 */
export function output(): NodeJS.WriteStream {
  if (!process.stdout.listeners('error').includes(outputLost)) process.stdout.on('error', outputLost);
  return process.stdout;
}

const unheard = (): void => undefined;

/** Writes to standard error. If its reader is gone, the exit code alone reports the fault. */
export function complain(text: string): void {
  if (!process.stderr.listeners('error').includes(unheard)) process.stderr.on('error', unheard);
  process.stderr.write(text);
}

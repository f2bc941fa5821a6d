/** The command line as a process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { main } from '../deploy/helper.js';

/** Gets a process at its start. */
type Started = (child: ChildProcess) => void;

interface Run {
  readonly code: number | null;
  readonly text: string;
  readonly errors: string;
}

/** Runs `sortie` to its end. */
export async function sortie(
  args: readonly string[],
  { cwd, env, started }: { cwd?: string; env?: NodeJS.ProcessEnv; started?: Started | undefined } = {},
): Promise<Run> {
  const child = spawn(process.execPath, [main, ...args], { cwd, env: { ...process.env, ...env } });
  let [text, errors] = ['', ''];
  child.stdout.on('data', (data: Buffer) => (text += data.toString()));
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
  started?.(child);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, text, errors };
}

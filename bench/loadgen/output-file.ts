/** Output files of commands that run for minutes. */
import { open } from 'node:fs/promises';

/** Checks that a file can be written, and keeps its content. @throws Error that names the option */
export async function checkWritable(option: string, file: string | null): Promise<void> {
  if (file === null) return;
  try {
    await (await open(file, 'a')).close();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${option} must be a file that can be written, got "${file}" (${code ?? 'unwritable'})`, {
      cause: error,
    });
  }
}

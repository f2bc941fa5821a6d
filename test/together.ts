/** Runs the test files that SORTIE_TEST_FILES names, paths from the package root, in this process. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { packageRoot } from '../src/cli/options/config.js';

// The files add their tests to the same root, which runs them after all imports, in order.
t.before(async () => {
  for (const file of (process.env.SORTIE_TEST_FILES ?? '').split(' ')) {
    await import(pathToFileURL(join(packageRoot, file)).href);
  }
  // Each file sets the time-out of its own tests, and run.ts that of the process.
  t.setTimeout(0);
});

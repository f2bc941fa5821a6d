/**
 * Builds for `npm pack` (`npm run pack`). The package holds whole folders of dist, so JavaScript whose source is
 * gone is removed first.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');

for (const folder of ['src', 'bench']) {
  const built = join(root, 'dist', folder);
  for (const name of existsSync(built) ? readdirSync(built, { recursive: true }) : []) {
    if (name.endsWith('.js') && !existsSync(join(root, folder, name.replace(/\.js$/, '.ts'))))
      rmSync(join(built, name));
  }
}
execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b'], { cwd: root, stdio: 'inherit' });

/** The borders of ARCHITECTURE.md between the processes. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const built = resolve(dirname(fileURLToPath(import.meta.url)), '..', 'src');

/** The built files that a file loads when it starts, itself included, relative to src. */
function loadedBy(entry: string): string[] {
  const found = new Set<string>();
  const visit = (file: string): void => {
    if (found.has(file) || !existsSync(file)) return;
    found.add(file);
    const text = readFileSync(file, 'utf8');
    for (const [, path = ''] of text.matchAll(/^(?:import|export)\b[^;]*?from '(\.[^']+)'|^import '(\.[^']+)'/gm))
      if (path !== '') visit(resolve(dirname(file), path));
  };
  visit(join(built, entry));
  return [...found].map((file) => relative(built, file));
}

void t.test('the gateway loads nothing of engine and scheduler', async (t) => {
  const files = loadedBy('gateway/serve/serve.js');
  t.ok(files.length > 100, `${files.length} files`);
  t.same(
    files.filter((file) =>
      /^(engine\/(?!model\/(manifest|architecture|common-sampling|kernels|onnx-proto))|convert)\//.test(file),
    ),
    [],
  );
  t.ok(loadedBy('engine/worker/process.js').some((file) => file.startsWith('engine/scheduler/')));
});

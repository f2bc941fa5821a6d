/**
 * ESLint rule: no file imports itself through others. It counts imports of types, unlike `import-x/no-cycle`. It reads
 * relative imports of TypeScript files, as the sources spell them ('./x.js' is x.ts).
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

const IMPORT = /(?:\bfrom|\bimport\(|^import)\s*'(\.{1,2}\/[^']+)\.js'/gm;

/** The imports of each file, with the time of its last change, because an editor keeps this process. */
const known = new Map();

function fileOf(importer, specifier) {
  return resolve(dirname(importer), specifier.replace(/\.js$/, '.ts'));
}

function importsOf(file) {
  const changedAt = existsSync(file) ? statSync(file).mtimeMs : 0;
  const before = known.get(file);
  if (before?.changedAt === changedAt) return before.imports;
  const text = changedAt === 0 ? '' : readFileSync(file, 'utf8');
  const imports = [...text.matchAll(IMPORT)].map(([, path]) => resolve(dirname(file), `${path}.ts`));
  known.set(file, { changedAt, imports });
  return imports;
}

/** The shortest path from one file to another along imports, both included; null if there is none. */
function pathBetween(from, to) {
  const via = new Map([[from, null]]);
  for (const file of via.keys()) {
    if (file === to) {
      const path = [];
      for (let at = file; at !== null; at = via.get(at)) path.unshift(at);
      return path;
    }
    for (const next of importsOf(file)) if (!via.has(next)) via.set(next, file);
  }
  return null;
}

export default {
  meta: { type: 'problem', schema: [], messages: { cycle: 'Import cycle: {{path}}' } },
  create(context) {
    const check = (node) => {
      const specifier = node.source?.value;
      if (typeof specifier !== 'string' || !specifier.startsWith('.')) return;
      const path = pathBetween(fileOf(context.filename, specifier), context.filename);
      if (path === null) return;
      const names = path.map((file) => file.slice(context.cwd.length + 1));
      context.report({ node, messageId: 'cycle', data: { path: names.join(' -> ') } });
    };
    return {
      ImportDeclaration: check,
      ImportExpression: check,
      ExportNamedDeclaration: check,
      ExportAllDeclaration: check,
    };
  },
};

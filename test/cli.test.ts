/** The command line: its help and its errors before a command runs. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { run } from '../src/cli/cli.js';
import { packageRoot, SERVE_OPTIONS } from '../src/cli/options/config.js';
import { factors } from '../src/cli/values.js';
import { sortie } from './cli/sortie.js';
import { main } from './deploy/helper.js';

/**
 * Runs the command line. No assertion may run while the outputs are captured.
 * @returns the exit code and the output
 */
async function printed(t: Test, args: string[]): Promise<{ code: number; text: string }> {
  const outputs = [t.capture(process.stdout, 'write', () => true), t.capture(process.stderr, 'write', () => true)];
  const code = await run(args);
  const text = outputs.flatMap((output) => output().map((call) => String(call.args[0]))).join('');
  for (const output of outputs) output.restore();
  return { code, text };
}

void t.test('bench shows its defaults, and rejects impossible values', async (t) => {
  t.same(factors('.5,1'), [0.5, 1], 'a rate may begin with its point');
  const { text } = await printed(t, ['bench', '--help']);
  const help = text.replaceAll(/\s+/g, ' ');
  t.match(help, '(default: tight=1000,medium=3000,loose=10000)');
  t.match(help, /--requests <n> requests of a run \(default: 60, or all of the trace\)/);
  for (const [args, rule] of [
    [['--budgets', 'a'], /must be NAME=BUDGET/],
    [['--rates', '0'], /must be a number above 0/],
    [['--rates', '.'], /must be a number of at least 0/],
    [['--clients', '1.5'], /must be a positive integer/],
    [['--clients', '2', '--rates', '3'], /'--clients <list>' cannot be used with option '--rates <list>'/],
    [['--trace', '/x', '--arrivals', 'bursts'], /'--trace <file>' cannot be used with option '--arrivals <kind>'/],
    [['--body', '[1]'], /must be a JSON object/],
    [['--body', '{'], /must be a JSON object/],
    [['--header', 'X'], /must be a header such as "Name: value"/],
    [['--timeout', '301'], /at most 300/],
  ] as const)
    await t.test(args.join(' '), async (t) => {
      const { code, text } = await printed(t, ['bench', 'http://localhost:1', ...args]);
      t.equal(code, 2);
      t.match(text, rule);
    });
});

void t.test('a missing folder is named once, and a name on the Hub gets the way to fetch it', async (t) => {
  for (const args of [['serve', '--model'], ['inspect']])
    t.match(await printed(t, [...args, 'nowhere']), { code: 1, text: 'error: there is no folder nowhere\n' });
  const hub = /; if this is a name on the Hugging Face Hub, `sortie pull org\/name --no-convert` downloads it\n$/;
  for (const args of [
    ['inspect', 'org/name'],
    ['convert', 'org/name', '--out', join(t.testdir({}), 'out')],
  ])
    t.match(await printed(t, args), { code: 1, text: hub });
  const { text } = await printed(t, ['inspect', 'test/nothing']);
  t.equal(text, 'error: there is no folder test/nothing\n', 'a path in an existing folder is no name on the Hub');
});

void t.test('the help of serve has the groups of the options, and a switch may stand alone', async (t) => {
  const { text } = await printed(t, ['serve', '--help']);
  const headings = [...text.matchAll(/^(\S.*):$/gm)].map(([, heading]) => heading);
  const groups = new Set(Object.values(SERVE_OPTIONS).map(({ group }) => group));
  t.same(headings, [...groups, 'Options'], 'the last group is --help');
  t.notMatch(text, 'preset');
  const alone = await printed(t, ['serve', '--log-prompts', '--port', 'x']);
  t.match(alone.text, 'error: --port must be', 'the switch is valid');
});

void t.test('every flag of serve reaches its option', async (t) => {
  for (const { flag } of Object.values(SERVE_OPTIONS)) {
    // No option accepts an empty text. A lost flag would reach the check of the model folder.
    const { code, text } = await printed(t, ['serve', '--model', '/none', `--${flag}=`]);
    t.equal(code, 2, flag);
    t.match(text, `error: --${flag} must be `);
  }
  for (const args of [['serve', '--nonsense'], ['nonsense']]) t.equal((await printed(t, args)).code, 2);
  const { code, text } = await printed(t, ['serve', '--help']);
  t.equal(code, 0);
  for (const { flag } of Object.values(SERVE_OPTIONS)) t.match(text, new RegExp(`--${flag} [<[]`));
});

void t.test('convert accepts the names that serve accepts', async (t) => {
  for (const value of ['', 'a:b', 'a b']) {
    const { code, text } = await printed(t, ['convert', '/none', '--out', '/none/out', '--name', value]);
    t.equal(code, 2, value);
    t.match(text, /must be a name of letters, digits/);
  }
});

void t.test('every option of convert is in docs/models.md', async (t) => {
  const { text } = await printed(t, ['convert', '--help']);
  const options = [...text.matchAll(/^ +(--[a-z-]+)/gm)].map(([, option]) => option ?? '');
  const docs = readFileSync(join(packageRoot, 'docs', 'models.md'), 'utf8');
  t.ok(options.length > 10);
  for (const option of options) t.match(docs, new RegExp(`\`${option}[ \`]`), option);
});

// Node.js behaves this way for a numeric user without HOME.
const homeless = `import os from 'node:os';
import { syncBuiltinESMExports } from 'node:module';
os.homedir = () => { throw new Error('ENOENT'); };
syncBuiltinESMExports();`;

void t.test('the command line works for a user without a home folder', (t) => {
  const args = ['--import', `data:text/javascript,${encodeURIComponent(homeless)}`, main, 'serve', '--help'];
  const { status, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...process.env, XDG_CACHE_HOME: '' },
  });
  t.same({ status, stderr }, { status: 0, stderr: '' });
  t.end();
});

void t.test('an empty HOME counts as none: no file is written to the working folder', (t) => {
  const show = `import { SERVE_OPTIONS } from ${JSON.stringify(new URL('../src/cli/options/config.js', import.meta.url).href)};
console.log(SERVE_OPTIONS.cacheDir.default);`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', show], {
    encoding: 'utf8',
    env: { ...process.env, HOME: '', XDG_CACHE_HOME: '' },
  });
  t.match(stdout, /^\/.*\/sortie\n$/);
  t.end();
});

void t.test('without a reader a command exits silently, and a conversion leaves no file', async (t) => {
  const dir = t.testdir({});
  const tiny = join(packageRoot, 'test', 'golden', 'tiny');
  const convert = ['convert', tiny, '--exits', '1,2,3,4,5', '--kernels', 'fp32,int4,w8a8', '--out', join(dir, 'out')];
  for (const args of [['openapi'], convert]) {
    const unread = await sortie(args, { started: ({ stdout }) => stdout?.destroy() });
    t.match(unread, { code: 141, errors: /^$/ }, args.join(' '));
  }
  t.strictSame(readdirSync(dir), []);
});

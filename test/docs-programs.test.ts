/** The programs of docs/clients.md run as they are printed, but for address and model. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { packageRoot } from '../src/cli/options/config.js';
import { build, says } from './fakes/server.js';

const page = readFileSync(join(packageRoot, 'docs', 'clients.md'), 'utf8');
const programs = [...page.matchAll(/^### ([^\n]*)\n\n[^\n]*\n\n```js\n(.*?)^```/gms)];

void t.test('every library has a program', async (t) => {
  t.same(
    programs.map(([, name]) => name),
    ['AI SDK', 'LangChain', 'Anthropic'],
  );
});

for (const [, name, program = ''] of programs)
  void t.test(`the program for ${name} prints an answer, within its budget`, async (t) => {
    const server = await build(t, says('Rayleigh scattering.'));
    const code = program.replace('http://localhost:8080', server.url).replaceAll('smollm2-135m-sorted', 'fake');
    const run = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code], { cwd: packageRoot });
    t.match((await run).stdout, /^Rayleigh scattering\./);
    t.match(server.engine.requests.at(-1)?.depth.budget, { totalMs: 2000 });
  });

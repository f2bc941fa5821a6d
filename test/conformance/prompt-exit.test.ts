/** A folder with a prompt exit, from its conversion on the command line to the same answers with the exit on and off. */
import { spawnSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { promptModel, writePromptModel } from '../convert/prompt-models.js';
import { main, serve } from '../deploy/helper.js';
import { post } from '../support/post.js';

/** Runs a command of sortie. @returns its output */
function sortie(...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`sortie ${args.join(' ')}: ${stderr}`);
  return stdout;
}

// Random weights with the tokenizer and the template of the tiny golden model.
const model = promptModel('Llama', { layers: 5, exit: 2, group: 2 });
const dir = t.testdir();
const source = writePromptModel(dir, model, { eos_token_id: 2, max_position_embeddings: 512 });
for (const file of ['tokenizer.json', 'chat_template.jinja'])
  copyFileSync(join(packageRoot, 'test', 'golden', 'tiny', file), join(source, file));
const folder = join(dir, 'model');
sortie('convert', source, '--exits', '1,5', '--kernels', 'fp32', '--out', folder);

void t.test('inspect says how many layers prompts run', async (t) => {
  t.match(sortie('inspect', folder), /^prompts {4}2 with keys and values for 3 more$/m);
});

void t.test('answers are the same, also behind a stored prefix and with log-probabilities of the prompt', async (t) => {
  const prompt = 'The ferry to the island leaves at nine, and the last one comes back at six. '.repeat(3);
  const answers = async (args: readonly string[]): Promise<unknown[]> => {
    const { url } = await serve(t, folder, args);
    const found: unknown[] = [];
    for (const more of [{}, {}, { echo: true, logprobs: 0 }]) {
      const body = { prompt, max_tokens: 8, temperature: 0, ignore_eos: true, ...more };
      const response = await post(`${url}/v1/completions`, body);
      t.equal(response.status, 200);
      const { choices } = (await response.json()) as { readonly choices: readonly { readonly text: string }[] };
      found.push(choices[0]?.text.replace(prompt, ''));
    }
    return found;
  };
  const on = await answers([]);
  t.equal(new Set(on).size, 1);
  t.strictSame(await answers(['--prompt-exit', 'off']), on);
});

/** A folder of both depths of prompts, from its conversion on the command line to answers over HTTP. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { MANIFEST_FILE } from '../../src/engine/model/manifest-io.js';
import { promptModel, writePromptModel } from '../convert/prompt-models.js';
import { main, serve } from '../deploy/helper.js';

const EXIT = 2;
const LAYERS = 5;

/** Runs a command of sortie. @returns its output */
function sortie(...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`sortie ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** Random weights with the tokenizer and the template of the tiny golden model. */
function sourceOf(dir: string): string {
  const model = promptModel('Llama', { layers: LAYERS, exit: EXIT, group: 2 });
  const source = writePromptModel(dir, model, { eos_token_id: 2, max_position_embeddings: 512 });
  for (const file of ['tokenizer.json', 'chat_template.jinja'])
    copyFileSync(join(packageRoot, 'test', 'golden', 'tiny', file), join(source, file));
  return source;
}

const dir = t.testdir();
const folder = join(dir, 'both');
sortie('convert', sourceOf(dir), '--exits', `1,${LAYERS}`, '--kernels', 'fp32', '--out', folder);
const file = join(folder, MANIFEST_FILE);
const manifest = JSON.parse(readFileSync(file, 'utf8')) as { readonly prompt: { readonly quality: object } };
const quality = { ...manifest.prompt.quality, right: 0.97, rightByPrompt: [[100, 0.97]] };
writeFileSync(file, JSON.stringify({ ...manifest, prompt: { ...manifest.prompt, quality } }));
const { url } = await serve(t, folder);

interface Answer {
  readonly choices: readonly { readonly text: string }[];
  readonly sortie: {
    readonly plan: { readonly prompt_depth?: number | null };
    readonly prompt_depth?: number | null;
    readonly exit_layers: Record<string, number>;
  };
  readonly error?: { readonly message: string; readonly param: string };
}

const PROMPT = 'The ferry to the island leaves at nine, and the last one comes back at six. '.repeat(3);

async function complete(headers: Record<string, string>, body: object = {}): Promise<[number, Answer]> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ prompt: PROMPT, max_tokens: 8, temperature: 0, ignore_eos: true, ...body }),
  });
  return [response.status, (await response.json()) as Answer];
}

void t.test('a request chooses the depth of its prompt', async (t) => {
  const [, plain] = await complete({});
  t.equal(plain.sortie.prompt_depth, null);
  const texts = new Map<string, string>();
  for (const [asked, depth] of [
    ['full', null],
    [String(EXIT), EXIT],
  ] as const)
    // The second answer reuses the prefix of the first one.
    for (const time of [1, 2]) {
      const [status, { sortie, choices }] = await complete({ 'X-Prompt-Depth': asked });
      t.equal(status, 200);
      t.equal(sortie.prompt_depth, depth);
      t.strictSame(sortie.exit_layers, { [LAYERS]: 8 });
      const text = choices[0]?.text ?? '';
      if (time === 2) t.equal(text, texts.get(asked));
      texts.set(asked, text);
    }
  t.equal(texts.get('full'), plain.choices[0]?.text);
  t.not(texts.get('full'), texts.get(String(EXIT)), 'the depth changes the answer');
});

void t.test('a plan chooses it for a budget', async (t) => {
  const tight = { 'X-SLO-TTFT-Ms': '0.001' };
  const full = { prompt_depth: 'auto', exit_layer: LAYERS };
  const [, { sortie }] = await complete(tight, { sortie: full });
  t.match(sortie, { plan: { prompt_depth: EXIT }, prompt_depth: EXIT, exit_layers: { [LAYERS]: 8 } });
  const [, dry] = await complete(tight, { sortie: { ...full, dry_run: true } });
  t.match(dry.sortie, { plan: { prompt_depth: EXIT }, prompt_depth: EXIT });
  const [, ample] = await complete({ 'X-Latency-Budget-Ms': '600000' });
  t.match(ample.sortie, { plan: { prompt_depth: null }, prompt_depth: null });
  const [, stated] = await complete({ ...tight, 'X-Prompt-Depth': 'full' });
  t.equal(stated.sortie.prompt_depth, null);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  t.match(metrics, /^sortie_prompt_depth_total\{.*prompt_depth="2".*\} [1-9]/m);
});

void t.test('an early exit has a prompt of full depth', async (t) => {
  const [, { sortie }] = await complete({ 'X-Exit-Layer': '1' });
  t.strictSame(sortie, { ...sortie, prompt_depth: null, exit_layers: { 1: 8 } });
});

void t.test('a depth that the model lacks is rejected by name', async (t) => {
  const [status, { error }] = await complete({ 'X-Prompt-Depth': '3' });
  t.equal(status, 400);
  t.match(error, { param: 'X-Prompt-Depth', message: /\(full, 2, auto\), got "3"/ });
});

void t.test('/props and inspect say the depths', async (t) => {
  t.match(await (await fetch(`${url}/props`)).json(), { prompt_depths: ['full', EXIT] });
  t.match(sortie('inspect', folder), /^prompts {4}all layers, or 2 with keys and values for 3 more, right 0\.97$/m);
});

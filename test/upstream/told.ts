/** An answer of the gateway as its client gets it, part by part. */
import { monotonicMs } from '../../src/util/clock.js';
import type { Counts } from '../../src/gateway/upstream/landed.js';
import { type TestServer, build, says, type Overrides } from '../fakes/server.js';
import type { Test } from 'tap';
import { scriptedUpstream, upstream, type ScriptedUpstream, type UpstreamScript } from '../fakes/upstream.js';

interface Choice {
  readonly index?: number;
  readonly text?: string;
  readonly delta?: { readonly content?: string | null };
  readonly message?: { readonly content?: string | null };
  readonly finish_reason?: string | null;
}

interface Json {
  readonly id?: string;
  readonly choices?: readonly Choice[];
  readonly error?: { readonly code?: string };
  readonly usage?: Counts | null;
  readonly sortie?: { readonly actual_ms: number };
}

export interface Told {
  readonly status: number;
  readonly headers: Headers;
  readonly isStream: boolean;
  /** The content of the choices, together and by their index. */
  text: string;
  readonly choices: string[];
  finishReason: string | null;
  error: Json['error'];
  report: Json['sortie'];
  usage: Counts | null;
  /** The data of the last event. */
  last: string | undefined;
  /** Content with the time of its arrival. */
  readonly parts: { readonly ms: number; readonly text: string }[];
  readonly ids: Set<string>;
  json: unknown;
  /** From the request to the last byte. */
  ms: number;
  endedAt: number;
}

export async function ask(here: TestServer, body: object, budgetMs: number, headers = {}): Promise<Told> {
  const startedAt = monotonicMs();
  const asked = { model: 'big', messages: [{ role: 'user', content: 'Where is Paris?' }], ...body };
  const budget = { 'x-latency-budget-ms': String(budgetMs), ...headers };
  const response = await here.post('/v1/chat/completions', asked, budget);
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
  const told: Told = {
    ...{ status: response.status, headers: response.headers, isStream, text: '', finishReason: null, error: undefined },
    choices: [],
    ...{
      report: undefined,
      usage: null,
      last: undefined,
      parts: [],
      ids: new Set(),
      json: undefined,
      ms: 0,
      endedAt: 0,
    },
  };
  const read = (json: Json): void => {
    for (const choice of json.choices ?? []) {
      const { index = 0, delta, message } = choice;
      const text = delta?.content ?? message?.content ?? choice.text ?? '';
      if (text !== '') told.parts.push({ ms: monotonicMs() - startedAt, text });
      told.text += text;
      told.choices[index] = (told.choices[index] ?? '') + text;
      told.finishReason = choice.finish_reason ?? told.finishReason;
    }
    told.error ??= json.error;
    told.report ??= json.sortie;
    told.usage ??= json.usage ?? null;
    if (json.id !== undefined) told.ids.add(json.id);
  };
  let rest = '';
  const decoder = new TextDecoder();
  for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
    rest += decoder.decode(bytes, { stream: true });
    if (!isStream) continue;
    const blocks = rest.split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks.filter((each) => each.startsWith('data: '))) {
      told.last = block.replaceAll(/^data: /gm, '');
      if (told.last !== '[DONE]') read(JSON.parse(told.last) as Json);
    }
  }
  if (!isStream) {
    told.json = JSON.parse(rest);
    read(told.json as Json);
  }
  told.endedAt = monotonicMs();
  told.ms = told.endedAt - startedAt;
  return told;
}

export interface Both {
  readonly there: ScriptedUpstream;
  readonly here: TestServer;
}

/** @param overrides of the gateway, whose local model says one word */
export async function both(t: Test, script: UpstreamScript, overrides: Overrides = {}): Promise<Both> {
  const there = await scriptedUpstream(t, script);
  const here = await build(t, says('Local.'), { upstreams: [{ ...upstream, url: there.url }], ...overrides });
  return { there, here };
}

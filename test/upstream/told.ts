/** An answer of the gateway as its client gets it, part by part. */
import { monotonicMs } from '../../src/util/clock.js';
import type { Counts } from '../../src/gateway/upstream/exchange.js';
import { type TestServer, build, says, type Overrides } from '../fakes/server.js';
import type { Test } from 'tap';
import { scriptedUpstream, upstream, type UpstreamScript } from '../fakes/upstream.js';
import { movedClock } from '../support/moved-clock.js';

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

export class Told {
  /** The content of the choices, together and by their index. */
  text = '';
  readonly choices: string[] = [];
  finishReason: string | null = null;
  error: Json['error'];
  report: Json['sortie'];
  usage: Counts | null = null;
  /** The data of the last event. */
  last: string | undefined;
  /** Content with the time of its arrival. */
  readonly parts: { readonly ms: number; readonly text: string }[] = [];
  readonly ids = new Set<string>();
  json: unknown;
  /** From the request to the last byte. */
  ms = 0;
  endedAt = 0;

  constructor(
    readonly status: number,
    readonly headers: Headers,
    readonly isStream: boolean,
  ) {}

  read(json: Json, ms: number): void {
    for (const choice of json.choices ?? []) {
      const { index = 0, delta, message } = choice;
      const text = delta?.content ?? message?.content ?? choice.text ?? '';
      if (text !== '') this.parts.push({ ms, text });
      this.text += text;
      this.choices[index] = (this.choices[index] ?? '') + text;
      this.finishReason = choice.finish_reason ?? this.finishReason;
    }
    this.error ??= json.error;
    this.report ??= json.sortie;
    this.usage ??= json.usage ?? null;
    if (json.id !== undefined) this.ids.add(json.id);
  }
}

export async function ask(
  here: TestServer,
  body: object,
  budgetMs: number,
  headers = {},
  signal?: AbortSignal,
): Promise<Told> {
  const startedAt = monotonicMs();
  const asked = { model: 'big', messages: [{ role: 'user', content: 'Where is Paris?' }], ...body };
  const budget = { 'x-latency-budget-ms': String(budgetMs), ...headers };
  const response = await here.post('/v1/chat/completions', asked, budget, signal);
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
  const told = new Told(response.status, response.headers, isStream);
  let rest = '';
  for await (const text of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    rest += text;
    if (!isStream) continue;
    const blocks = rest.split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks.filter((each) => each.startsWith('data: '))) {
      told.last = block.replaceAll(/^data: /gm, '');
      if (told.last !== '[DONE]') told.read(JSON.parse(told.last) as Json, monotonicMs() - startedAt);
    }
  }
  told.endedAt = monotonicMs();
  told.ms = told.endedAt - startedAt;
  if (!isStream) told.read((told.json = JSON.parse(rest)) as Json, told.ms);
  return told;
}

/** On a moved clock. @param overrides of the gateway, whose local model says one word */
export async function both(t: Test, script: UpstreamScript, overrides: Overrides = {}) {
  movedClock(t);
  const there = await scriptedUpstream(t, script);
  const here = await build(t, says('Local.'), { upstreams: [{ ...upstream, url: there.url }], ...overrides });
  return { there, here };
}

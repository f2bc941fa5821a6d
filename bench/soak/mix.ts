/** The mixed load of a soak: a client's next request. */

export interface SoakRequest {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readonly<Record<string, unknown>>;
  /** Milliseconds after which the client disconnects; null: it waits for the answer. */
  readonly leaveAfterMs: number | null;
  /** Whether the server must reject the request with a 400. */
  readonly wrong: boolean;
}

export interface Served {
  readonly name: string;
  readonly exits: readonly number[];
  readonly vocabulary: number;
}

const TEXTS = [
  'Write a short story about a lighthouse keeper.',
  'List three rivers of Europe and the seas they flow into.',
  'Explain to a child why the sky is blue. 空はなぜ青いのか。🙂',
  'def fibonacci(n):',
];

/** @param random uniform in [0, 1) */
export function nextRequest(random: () => number, served: Served): SoakRequest {
  const below = (count: number): number => Math.floor(random() * count);
  const pick = <T>(list: readonly T[], or: T): T => list[below(list.length)] ?? or;
  const some = (share: number, fields: () => object): object => (random() < share ? fields() : {});
  const text = pick(TEXTS, '');
  const exit = pick(served.exits, 0);
  const wrong = random() < 0.03;
  const chat = random() < 0.4;
  const ids = (): number[] => Array.from({ length: 1 + below(200) }, () => 100 + below(served.vocabulary - 200));

  const depth = (): Record<string, string> => {
    const kind = below(5);
    if (kind === 0) return { 'x-exit-layer': String(exit) };
    if (kind === 1) return { 'x-latency-budget-ms': String(20 + below(8000)), 'x-min-exit-layer': String(exit) };
    if (kind === 2) return { 'x-slo-ttft-ms': String(20 + below(2000)), 'x-slo-tpot-ms': String(5 + below(200)) };
    if (kind === 3) {
      const budget = String(20 + below(4000));
      return {
        'x-latency-budget-ms': budget,
        'x-budget-on-miss': pick(['continue', 'truncate', 'reject'], 'continue'),
      };
    }
    return {};
  };

  const body = {
    model: random() < 0.2 ? `${served.name}:${exit}` : served.name,
    ...(chat
      ? { messages: [{ role: 'user', content: `${text} (${below(1000)})` }] }
      : { prompt: random() < 0.5 ? `${text} ${below(1000)}` : ids() }),
    max_tokens: 1 + below(48),
    ...some(0.6, () => ({ stream: true, ...some(0.5, () => ({ stream_options: { include_usage: true } })) })),
    ...some(0.2, () => ({ n: 1 + below(2) })),
    ...some(0.2, () =>
      chat ? { logprobs: true, top_logprobs: below(6) } : { logprobs: below(6), echo: random() < 0.3 },
    ),
    ...some(0.5, () => ({ temperature: 2 * random(), top_p: 0.5 + 0.5 * random(), seed: below(1000) })),
    ...some(0.2, () => ({ stop: ['. ', '\n\n'] })),
    ...some(0.2, () => ({ frequency_penalty: 1, logit_bias: { '28': -5 } })),
    ...(wrong ? { temperature: 'hot' } : {}),
  };
  return {
    path: chat ? '/v1/chat/completions' : '/v1/completions',
    // A pinned model and a pinned header must not contradict each other, so only routed models get headers.
    headers: body.model === served.name ? depth() : {},
    body,
    leaveAfterMs: random() < 0.15 ? below(1500) : null,
    wrong,
  };
}

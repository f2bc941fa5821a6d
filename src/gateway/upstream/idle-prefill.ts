/** Prefills the prompts of armed nets while the engine idles, so that a net finds its keys in the KV cache. */
import { randomBytes } from 'node:crypto';
import type { ApiContext } from '../api/context.js';
import type { EngineRequest } from '../../protocol/index.js';

export class IdlePrefill {
  #isBusy = false;

  /**
   * @param request of a local answer
   * @param signal cancels it
   * @returns whether the prompt is in the KV cache now
   */
  async run(
    { engine, metrics }: Pick<ApiContext, 'engine' | 'metrics'>,
    request: EngineRequest,
    signal: AbortSignal,
  ): Promise<boolean> {
    const [first] = request.sequences;
    if (this.#isBusy || metrics.live > 0 || first === undefined || signal.aborted) return false;
    this.#isBusy = true;
    const events = engine.generate(promptOf(request, first));
    const stop = (): void => void events.return();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const turn of events) if (turn.some(({ type }) => type === 'ended')) return !signal.aborted;
      return false;
    } finally {
      signal.removeEventListener('abort', stop);
      this.#isBusy = false;
    }
  }
}

/** One token of the same prompt at full depth: all exits read its keys. It teaches nothing of lengths. */
function promptOf(request: EngineRequest, first: EngineRequest['sequences'][number]): EngineRequest {
  const { depth, ...rest } = request;
  return {
    ...rest,
    isNet: false,
    stopTokens: [],
    minTokens: 0,
    logprobs: null,
    promptLogprobs: null,
    grammar: null,
    depth: { ...depth, minExit: depth.maxExit, budget: null },
    sequences: [{ ...first, id: randomBytes(12).toString('hex'), maxTokens: 1 }],
  };
}

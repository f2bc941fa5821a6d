/** Clients as documented, which retry by themselves, get the end of a budget as the server sent it. */
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import t from 'tap';
import { build } from '../fakes/server.js';
import { scriptedUpstream, upstream } from '../fakes/upstream.js';
import { thrown } from './helper.js';

const CASES = [
  { status: 503, code: 'budget_infeasible', model: 'fake', budgetMs: 50 },
  { status: 504, code: 'deadline_exceeded', model: 'big', budgetMs: 400 },
] as const;

for (const stream of [false, true])
  void t.test(`no SDK repeats a request whose budget has no answer, stream ${stream}`, async (t) => {
    let asked = 0;
    const there = await scriptedUpstream(t, () => (asked += 1));
    const refuses = () => {
      asked += 1;
      return { tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs: null } } as const;
    };
    const { url } = await build(t, refuses, { upstreams: [{ ...upstream, url: there.url }] });
    const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'x' });
    const anthropic = new Anthropic({ baseURL: url, apiKey: 'x' });
    for (const { status, code, model, budgetMs } of CASES) {
      const headers = { 'X-Latency-Budget-Ms': String(budgetMs), 'X-Net': 'land' };
      const body = { model, stream, max_tokens: 9, messages: [{ role: 'user' as const, content: 'Hello' }] };
      for (const ask of [
        () => openai.chat.completions.create(body, { headers }),
        () => anthropic.messages.create(body, { headers }),
      ]) {
        asked = 0;
        const error = (await thrown(ask())) as { readonly status: number; readonly error: object };
        t.equal(error.status, status);
        t.match(JSON.stringify(error.error), `"code":"${code}"`, 'the body of the server');
        t.equal(asked, 1, `${status}: a wait of an SDK ends with a further request`);
      }
    }
  });

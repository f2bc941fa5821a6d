/** A scripted upstream, and the gateway in front of it. */
import type { Test } from 'tap';
import { build, says, type Overrides, type TestServer } from '../fakes/server.js';
import { scriptedUpstream, upstream, type ScriptedUpstream, type UpstreamScript } from '../fakes/upstream.js';

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

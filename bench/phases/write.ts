/** Writes answers whose exit changes by a plan, in the engine's core, and has them audited. */
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import type { Executor } from '../../src/engine/execution/executor.js';
import type { Grammars } from '../../src/engine/grammar/grammars.js';
import type { AuditEvent } from '../../src/engine/protocol.js';
import { applyMask, type Constraint } from '../../src/engine/sampling/constraint.js';
import { EngineCore } from '../../src/engine/worker/core.js';
import type { CostTable } from '../../src/cost/table.js';
import { chunkSizes, defaultPolicy } from '../../src/router/index.js';
import type { TextTokenizer } from '../../src/text/tokenizer.js';
import { greedy } from '../greedy-request.js';
import type { Plan } from './plans.js';

export interface Written {
  readonly promptTokens: number;
  readonly text: string;
  /** Text after each token. */
  readonly prefixes: readonly string[];
  /** Exit layer of each token. */
  readonly layers: readonly number[];
  /** Whether each token is the most likely one at full depth. */
  readonly agrees: readonly boolean[];
  readonly isEnded: boolean;
}

export interface Writer {
  readonly executor: Executor;
  readonly costs: CostTable;
  readonly tokenizer: TextTokenizer;
  readonly stopTokens: readonly number[];
  /** Most tokens of an answer. */
  readonly limit: number;
}

/** Most answers at a time: as many as there are parsers. */
const TOGETHER = 8;

interface Open {
  readonly prompt: readonly number[];
  readonly depth: { minExit: number; maxExit: number; budget: null };
  readonly tokens: number[];
  readonly prefixes: string[];
  readonly layers: number[];
  readonly masks: (Uint8Array | null)[];
  isEnded: boolean;
}

/** @param schema JSON schema of all answers, as text, and its thread; null for free text */
export async function write(
  { executor, costs, tokenizer, stopTokens, limit }: Writer,
  prompts: readonly (readonly number[])[],
  plan: Plan,
  schema: { readonly text: string; readonly grammars: Grammars } | null,
): Promise<Written[]> {
  const written: Written[] = [];
  for (let from = 0; from < prompts.length; from += TOGETHER) {
    executor.forget(0);
    const core = new EngineCore(executor, costs, {
      ...{ maxRunning: TOGETHER, maxQueue: 100, kvBytes: 2 ** 30, prefixReuse: true, prefillChunk: 128 },
      ...{ speculate: 'off', policy: { ...defaultPolicy, chunks: chunkSizes(128) }, clock: () => 0 },
      audit: { busyShare: 0, idleShare: 1 },
    });
    const answers = new Map<string, Open>();
    for (const prompt of prompts.slice(from, from + TOGETHER)) {
      const id = String(answers.size);
      const layer = plan.layerAt('');
      const depth = {
        minExit: Math.min(...executor.units.exits.map((exit) => exit.layer)),
        maxExit: layer,
        budget: null,
      };
      const answer: Open = { prompt, depth, tokens: [], prefixes: [], layers: [], masks: [], isEnded: false };
      answers.set(id, answer);
      const grammar = { kind: 'json', schema: schema?.text ?? '' } as const;
      const constraint = await schema?.grammars.open(id, grammar, stopTokens);
      const request = greedy(id, prompt, layer, limit, { arrivedAt: 0, stopTokens, depth, audit: true });
      core.submit(request, constraint === undefined ? null : recorded(constraint, answer.masks));
    }
    while (core.busy) {
      if (core.isStalled) {
        await delay(1);
        continue;
      }
      const { tokens, ended } = core.step();
      for (const { id, token, exit } of tokens) {
        const answer = answers.get(id);
        if (answer === undefined) continue;
        answer.tokens.push(token);
        answer.layers.push(exit);
        answer.prefixes.push(tokenizer.decode(answer.tokens));
        answer.depth.maxExit = plan.layerAt(answer.prefixes.at(-1) ?? '');
      }
      for (const { id, reason } of ended)
        if (reason === 'stop') Object.assign(answers.get(id) ?? {}, { isEnded: true });
      await turn();
    }
    const audits = schema === null ? auditsOf(core) : [];
    for (const [id, answer] of answers) {
      const own = audits.find((audit) => audit.id === id);
      const differing = new Set(own?.tokens.filter(({ best, token }) => best !== token).map(({ index }) => index));
      const choices = schema === null ? null : deepChoices(executor, answer);
      written.push({
        promptTokens: answer.prompt.length,
        text: answer.prefixes.at(-1) ?? '',
        ...{ prefixes: answer.prefixes, layers: answer.layers, isEnded: answer.isEnded },
        agrees: answer.tokens.map((token, i) => (choices === null ? !differing.has(i) : choices[i] === token)),
      });
    }
  }
  return written;
}

function auditsOf(core: EngineCore): AuditEvent[] {
  const audits: AuditEvent[] = [];
  while (core.auditDelayMs === 0) core.audit();
  audits.push(...core.takeAudits());
  return audits;
}

/** A constraint that keeps the mask of each token. */
function recorded(inner: Constraint, masks: (Uint8Array | null)[]): Constraint {
  return {
    get mask() {
      return inner.mask;
    },
    get enforced() {
      return inner.enforced;
    },
    get released() {
      return inner.released;
    },
    get complete() {
      return inner.complete;
    },
    get failed() {
      return inner.failed;
    },
    accept: (token) => {
      masks.push(inner.mask?.slice() ?? null);
      inner.accept(token);
    },
    close: () => {
      inner.close();
    },
  };
}

/** Full depth's most likely token at each position of an answer under its grammar. */
function deepChoices(executor: Executor, { prompt, tokens, masks }: Open): number[] {
  const { table, head } = executor;
  const slot = table.takeFree();
  if (slot === null) throw new Error('no slot is free');
  slot.live = true;
  slot.tokens = [...prompt, ...tokens];
  const deepest = executor.units.exits.length - 1;
  const { needed } = executor.exit(deepest);
  const choices: number[] = [];
  while (slot.least(needed) < slot.tokens.length - 1) {
    const end = Math.min(slot.least(needed) + 64, slot.tokens.length - 1);
    const { output } = executor.advance(slot, deepest, end);
    if (output === null) throw new Error('no stage ran');
    for (let at = Math.max(output.start, prompt.length - 1); at < end; at++) {
      output.toHead(at, 1);
      const logits = head.fullLogits(0);
      const mask = masks[at + 1 - prompt.length];
      if (mask != null) applyMask(logits, mask);
      choices.push(logits.indexOf(logits.reduce((most, logit) => Math.max(most, logit), -Infinity)));
    }
  }
  table.drop(slot);
  return choices;
}

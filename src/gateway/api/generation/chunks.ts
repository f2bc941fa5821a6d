/** The form of completions and chat completions. Must not know: the fields of their choices (passed in). */
import type { EventStream } from '../context.js';
import { type ChoiceToken, type Delta, emptyDelta } from './choice.js';
import { addFields, type Fields, noFields } from './joined-fields.js';
import { exitLayersOf } from './report.js';
import type { Form, FormAnswer } from './serve.js';

/** A whole choice: the joined fields of its chunks, and its tokens: its scores are made at its end. */
interface Collected {
  readonly fields: Fields;
  readonly tokens: ChoiceToken[];
}

/** The parts that differ between the two endpoints. */
interface Parts {
  readonly idPrefix: string;
  /** The names of both objects. */
  readonly object: { readonly chunk: string; readonly whole: string };
  /** Fields of a choice in a chunk. */
  delta(delta: Delta, isFirst: boolean): object;
  /** The same in the chunk that ends a choice. */
  readonly end: object;
  /** Fields of a whole choice out of those of its chunks. */
  whole(joined: Fields, tokens: readonly ChoiceToken[], index: number): object;
}

/** OpenAI's rules for a stream of chunks: usage in an own chunk, the report in the last one. */
export function chunkForm(answer: FormAnswer, parts: Parts, send?: EventStream['send']): Form {
  const { id, modelName, includeUsage, continuousUsage } = answer.request;
  const whole: Collected[] = [];
  const seen = new Set<number>();
  const { created } = answer;
  const head = (object: string) => ({ id: parts.idPrefix + id, object, created, model: modelName, ...answer.fields });
  const sendChunk = (choices: readonly object[], extra: object = {}): void => {
    const usage = continuousUsage
      ? { usage: answer.usage(), sortie: { exit_layers: exitLayersOf(answer.choices) } }
      : includeUsage
        ? { usage: null }
        : {};
    send?.({ ...head(parts.object.chunk), choices, ...usage, ...extra });
  };
  const sendChoice = (index: number, fields: object, extra?: object): void => {
    if (send !== undefined) sendChunk([{ index, ...fields }], extra);
    else addFields((whole[index] ??= { fields: noFields(), tokens: [] }).fields, { ...fields });
  };
  const add = (delta: Delta): void => {
    const { index, more, tokens } = delta;
    const fields = parts.delta(send === undefined ? { ...delta, tokens: [] } : delta, !seen.has(index));
    const scores = send === undefined ? { logprobs: null } : {};
    sendChoice(index, { ...fields, ...scores, ...more?.choice, finish_reason: null });
    whole[index]?.tokens.push(...tokens);
    seen.add(index);
  };
  return {
    add(piece) {
      if ('text' in piece) {
        add(piece);
        return;
      }
      const { index, finishReason: finish_reason, isLast, more } = piece;
      if (!seen.has(index)) add(emptyDelta(index));
      const report = isLast && !includeUsage ? { sortie: answer.report() } : {};
      sendChoice(index, { ...parts.end, ...more?.choice, finish_reason }, report);
    },
    end() {
      if (includeUsage) sendChunk([], { usage: answer.usage(), sortie: answer.report() });
      // An upstream may leave choices out.
      const choices = whole.flatMap(({ fields, tokens }, index) => ({ index, ...parts.whole(fields, tokens, index) }));
      return { ...head(parts.object.whole), choices, usage: answer.usage() };
    },
    failed(error) {
      send?.(error.body());
    },
  };
}

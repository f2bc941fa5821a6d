/** The form of completions and chat completions. Must not know: the fields of their choices (passed in). */
import type { EventStream } from '../context.js';
import type { CallPart } from './call-reader.js';
import { type ChoiceToken, type Delta, emptyDelta, type FinishReason, type Piece } from './choice.js';
import { addFields, type Fields, noFields } from './joined-fields.js';
import { exitLayersOf } from './report.js';
import type { Form, FormAnswer } from './serve.js';

/** A whole choice. */
export interface Collected {
  text: string;
  /** Empty without thoughts. */
  thoughts: string;
  readonly tokens: ChoiceToken[];
  readonly calls: CallPart[];
  finishReason: FinishReason;
  /** Fields of the upstream's own. */
  readonly more: { readonly delta: Fields; readonly choice: Fields };
}

const begun = (): Collected => ({
  text: '',
  thoughts: '',
  tokens: [],
  calls: [],
  finishReason: 'length',
  more: { delta: noFields(), choice: noFields() },
});

/** Adds a piece to its choice. */
function collect(choices: Collected[], piece: Piece): void {
  const choice = (choices[piece.index] ??= begun());
  addFields(choice.more.delta, piece.more?.delta);
  addFields(choice.more.choice, piece.more?.choice);
  if ('finishReason' in piece) {
    choice.finishReason = piece.finishReason;
    return;
  }
  choice.text += piece.text;
  choice.thoughts += piece.thoughts;
  choice.tokens.push(...piece.tokens);
  if (piece.call !== null) choice.calls.push(piece.call);
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
  /** Fields of a whole choice. */
  whole(choice: Collected, index: number): object;
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
  const sendDelta = (delta: Delta): void => {
    const { index, more } = delta;
    sendChunk([{ index, ...parts.delta(delta, !seen.has(index)), ...more?.choice, finish_reason: null }]);
    seen.add(index);
  };
  return {
    add(piece) {
      const { index } = piece;
      if (send === undefined) collect(whole, piece);
      else if ('text' in piece) sendDelta(piece);
      else {
        const { finishReason: finish_reason, isLast, more } = piece;
        if (!seen.has(index)) sendDelta(emptyDelta(index));
        const report = isLast && !includeUsage ? { sortie: answer.report() } : {};
        sendChunk([{ index, ...parts.end, ...more?.choice, finish_reason }], report);
      }
    },
    end() {
      if (includeUsage) sendChunk([], { usage: answer.usage(), sortie: answer.report() });
      // An upstream may leave choices out.
      const choices = whole.flatMap((choice, index) => ({
        index,
        ...parts.whole(choice, index),
        ...choice.more.choice,
        finish_reason: choice.finishReason,
      }));
      return { ...head(parts.object.whole), choices, usage: answer.usage() };
    },
    failed(error) {
      send?.(error.body());
    },
  };
}

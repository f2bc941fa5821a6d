/** The form of completions and chat completions. Must not know: the fields of their choices (passed in). */
import type { EventStream } from '../context.js';
import type { Answer } from './answer.js';
import type { CallPart } from './call-reader.js';
import type { ChoiceToken, Delta, FinishReason, Piece } from './choice.js';
import { exitLayersOf } from './report.js';
import type { Form } from './serve.js';

/** A whole choice. */
export interface Collected {
  text: string;
  /** Empty without thoughts. */
  thoughts: string;
  readonly tokens: ChoiceToken[];
  readonly calls: CallPart[];
  finishReason: FinishReason;
}

/** Adds a piece to its choice. */
function collect(choices: Collected[], piece: Piece): void {
  const choice = (choices[piece.index] ??= { text: '', thoughts: '', tokens: [], calls: [], finishReason: 'length' });
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
export function chunkForm(answer: Answer, parts: Parts, send?: EventStream['send']): Form {
  const { id, modelName, includeUsage, continuousUsage } = answer.request;
  const whole: Collected[] = [];
  const begun = new Set<number>();
  const head = (object: string) => ({ id: parts.idPrefix + id, object, created: answer.created, model: modelName });
  const sendChunk = (choices: readonly object[], extra: object = {}): void => {
    const usage = continuousUsage
      ? { usage: answer.usage(), sortie: { exit_layers: exitLayersOf(answer.choices) } }
      : includeUsage
        ? { usage: null }
        : {};
    send?.({ ...head(parts.object.chunk), choices, ...usage, ...extra });
  };
  const sendDelta = (delta: Delta): void => {
    const { index } = delta;
    sendChunk([{ index, ...parts.delta(delta, !begun.has(index)), finish_reason: null }]);
    begun.add(index);
  };
  return {
    add(piece) {
      const { index } = piece;
      if (send === undefined) collect(whole, piece);
      else if ('text' in piece) sendDelta(piece);
      else {
        if (!begun.has(index)) sendDelta({ index, text: '', tokens: [], call: null, thoughts: '' });
        const report = piece.isLast && !includeUsage ? { sortie: answer.report() } : {};
        sendChunk([{ index, ...parts.end, finish_reason: piece.finishReason }], report);
      }
    },
    end() {
      if (includeUsage) sendChunk([], { usage: answer.usage(), sortie: answer.report() });
      const choices = whole.map((choice, index) => ({
        index,
        ...parts.whole(choice, index),
        finish_reason: choice.finishReason,
      }));
      return { ...head(parts.object.whole), choices, usage: answer.usage() };
    },
    failed(error) {
      send?.(error.body());
    },
  };
}

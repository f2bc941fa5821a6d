/** The form of completions and chat completions. Must not know: the forms of their chunks (passed in). */
import type { EventStream } from '../context.js';
import type { Answer } from './answer.js';
import type { CallPart } from './call-reader.js';
import type { ChoiceToken, Delta, FinishReason, Piece } from './choice.js';
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

/** The forms of one endpoint. */
interface Forms {
  delta(delta: Delta, isFirst: boolean): object;
  finish(index: number, reason: FinishReason): object;
  /** A chunk without choices, which carries usage. */
  empty(): object;
  /** A whole answer without usage. */
  whole(choices: readonly Collected[]): { readonly id: string };
}

/** OpenAI's rules for a stream of chunks: usage in an own chunk, the report in the last one. */
export function chunkForm(answer: Answer, forms: Forms, send?: EventStream['send']): Form {
  const { includeUsage, continuousUsage } = answer.request;
  const choices: Collected[] = [];
  const begun = new Set<number>();
  const sendChunk = (chunk: object, extra: object = {}): void => {
    const usage = continuousUsage
      ? { usage: answer.usage(), sortie: { exit_layers: answer.exitLayers() } }
      : includeUsage
        ? { usage: null }
        : {};
    send?.({ ...chunk, ...usage, ...extra });
  };
  return {
    add(piece) {
      if (send === undefined) {
        collect(choices, piece);
        return;
      }
      const { index } = piece;
      const isFirst = !begun.has(index);
      begun.add(index);
      if ('text' in piece) {
        sendChunk(forms.delta(piece, isFirst));
        return;
      }
      if (isFirst) sendChunk(forms.delta({ index, text: '', tokens: [], call: null, thoughts: '' }, true));
      const report = piece.isLast && !includeUsage ? { sortie: answer.report() } : {};
      sendChunk(forms.finish(index, piece.finishReason), report);
    },
    end() {
      if (includeUsage) sendChunk(forms.empty(), { usage: answer.usage(), sortie: answer.report() });
      return { ...forms.whole(choices), usage: answer.usage() };
    },
    failed(error) {
      send?.(error.body());
    },
  };
}

/** The parts of an endpoint that generates. Must not know: the forms of any one endpoint, HTTP. */
import type { ApiContext, ApiRequest } from '../context.js';
import type { ApiError } from '../errors.js';
import type { SortieReport } from '../schemas/report.js';
import type { Answer } from './answer.js';
import type { CallPart } from './call-reader.js';
import type { ChoiceToken, FinishReason, Piece } from './choice.js';
import type { GenerationPlan } from './request.js';

/** A collected choice. */
export interface Collected {
  text: string;
  /** Empty without thoughts. */
  reasoning: string;
  readonly tokens: ChoiceToken[];
  readonly calls: CallPart[];
  finishReason: FinishReason;
}

/**
 * Sends one event of a stream.
 * @param name the event's name, for protocols that name their events
 */
export type SendEvent = (data: object, name?: string) => void;

/** Writes the course of one answer as events. */
export interface AnswerEvents {
  delta(answer: Answer, index: number, piece: Piece): void;
  /** @param last whether it was the last choice: `done` follows */
  finished(answer: Answer, index: number, reason: FinishReason, last: boolean): void;
  done(answer: Answer, report: SortieReport): void;
  /** The answer failed after the status line, which may be before the first event. */
  failed(answer: Answer, error: ApiError): void;
}

export interface Endpoint<Body> {
  /** The client gets the answer's id with this prefix. */
  readonly idPrefix: string;
  /** @throws ApiError for a request that the endpoint rejects */
  plan(context: ApiContext, request: ApiRequest<Body>): Promise<GenerationPlan>;
  /** The body of a whole answer, with usage and without the report. */
  whole(context: ApiContext, request: ApiRequest<Body>, answer: Answer, choices: readonly Collected[]): object;
  events(context: ApiContext, request: ApiRequest<Body>, send: SendEvent): AnswerEvents;
  /** The data of the last event of every stream; null for none. */
  readonly terminator: string | null;
}

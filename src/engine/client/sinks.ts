/**
 * The requests that the engine has: each event goes to the sink of its request.
 *
 * Knows: which sinks still wait for events. Must not know: the engine process.
 */
import type { AuditEvent, EndedEvent, RefusedEvent, StepMessage } from '../protocol.js';
import type { SequenceSink } from './engine.js';

export class Sinks {
  readonly #live = new Map<string, SequenceSink>();
  /** Requests that ask for an audit. */
  readonly #asked = new Set<string>();
  /** Sinks whose answer has ended, and whose audit has not. */
  readonly #awaiting = new Map<string, SequenceSink>();
  readonly #onLast: (id: string) => void;

  /** @param onLast is called when a request has its last event, except an audit */
  constructor(onLast: (id: string) => void) {
    this.#onLast = onLast;
  }

  /** Ids of the requests whose answer has not ended. */
  get ids(): string[] {
    return [...this.#live.keys()];
  }

  has(id: string): boolean {
    return this.#live.has(id);
  }

  /** @param isAudited whether the sink waits for an audit after the end */
  add(id: string, sink: SequenceSink, isAudited: boolean): void {
    this.#live.set(id, sink);
    if (isAudited) this.#asked.add(id);
  }

  dispatch(step: StepMessage): void {
    for (const event of step.planned) this.#live.get(event.id)?.planned(event);
    for (const event of step.prompts) this.#live.get(event.id)?.prompt(event);
    for (const event of step.tokens) this.#live.get(event.id)?.token(event, step.at);
    for (const event of step.refused) this.#refused(event);
    for (const event of step.ended) this.end(event);
  }

  end(event: EndedEvent): void {
    const isAsked = this.#asked.has(event.id);
    const sink = this.#take(event.id);
    if (isAsked && sink !== undefined) this.#awaiting.set(event.id, sink);
    sink?.ended(event);
  }

  audited(events: readonly AuditEvent[]): void {
    for (const event of events) {
      this.#awaiting.get(event.id)?.audited?.(event);
      this.#awaiting.delete(event.id);
    }
  }

  /** The engine is gone: no further event comes. */
  loseAll(message: string): void {
    const lost = this.ids.map((id) => this.#take(id));
    for (const sink of lost) sink?.lost(message);
    this.loseAudits();
  }

  /** No audit comes for the answers that have ended. */
  loseAudits(): void {
    const sinks = [...this.#awaiting.values()];
    this.#awaiting.clear();
    for (const sink of sinks) sink.audited?.(null);
  }

  #refused(event: RefusedEvent): void {
    this.#take(event.id)?.refused(event);
  }

  #take(id: string): SequenceSink | undefined {
    const sink = this.#live.get(id);
    this.#live.delete(id);
    this.#asked.delete(id);
    this.#onLast(id);
    return sink;
  }
}

/**
 * The engine as the gateway sees it: token ids in, events out.
 *
 * Must not know: how the engine runs (client.ts starts the process), text, HTTP.
 */
import type { EngineRequest, CancelReason, EndedEvent, ReadyMessage, StepMessage } from '../../protocol/index.js';
import type { SequenceEvents } from './sequence-events.js';

export interface EngineEvents {
  /** Progress of a start: loaded parts of the model. */
  loading: [done: number, total: number];
  ready: [ReadyMessage];
  /** Emitted once the answers have been written that the step brought. */
  step: [StepMessage];
  /** The gateway ended a sequence at its deadline. Later steps may still contain its events. */
  cut: [EndedEvent];
  /** The process exited; the client restarts it unless the engine is closed. */
  down: [message: string];
}

export interface Engine {
  /** Null without a ready process. */
  readonly ready: ReadyMessage | null;
  /**
   * Starts the process and resolves when the model is loaded.
   * @param checked must resolve before the engine is ready; if it rejects, the engine never gets ready
   * @throws EngineStartError when the first start fails (model folder, device): a restart would fail as well
   */
  start(checked?: Promise<void>): Promise<ReadyMessage>;
  /**
   * Whether the engine takes so many sequences of a tenant at this moment: the bound of requests on their way to it,
   * which tenants share.
   * @param tokens of their prompts, each prompt once
   */
  hasRoom(tenant: string, sequences: number, tokens: number): boolean;
  /** Milliseconds since the gateway sent the first request that the engine has not read; 0 without one. */
  readonly unreadMs: number;
  /** Starts the sequences of one answer. Without a ready process they are lost. */
  generate(request: EngineRequest): SequenceEvents;
  /** `ended` follows with this reason, unless another end came first. */
  cancel(id: string, reason: CancelReason): void;
  /** Wakes the sequences of a net. Their plans follow. */
  wake(ids: readonly string[]): void;
  /** Cancels all live sequences immediately, without waiting for the engine. */
  cancelAll(reason: CancelReason): void;
  on<K extends keyof EngineEvents>(event: K, listener: (...args: EngineEvents[K]) => void): this;
  /** Stops the process; live sequences end with `lost`. */
  close(): Promise<void>;
}

/**
 * The engine as the gateway sees it: token ids in, events out.
 *
 * Knows: the messages. Must not know: how the engine runs (client.ts starts the process), text, HTTP.
 */
import type {
  CancelReason,
  EndedEvent,
  GenerateMessage,
  PlannedEvent,
  PromptEvent,
  ReadyMessage,
  RefusedEvent,
  StepMessage,
  TokenEvent,
} from '../protocol.js';

/**
 * Receives the events of one sequence, in order. Exactly one of `refused`, `ended` and `lost` comes last.
 */
export interface SequenceSink {
  planned(event: PlannedEvent): void;
  refused(event: RefusedEvent): void;
  prompt(event: PromptEvent): void;
  /** @param at when the step that drew it was over */
  token(event: TokenEvent, at: number): void;
  ended(event: EndedEvent): void;
  /** The engine process died or can't be reached; nothing more comes for this sequence. */
  lost(message: string): void;
}

export interface EngineEvents {
  ready: [ReadyMessage];
  /** After the sinks were called. */
  step: [StepMessage];
  /** An answer ended at its deadline before the process said so: its sink was told, and steps may still speak of it. */
  cut: [EndedEvent];
  /** The process ended; it is started again unless the engine is closed. */
  down: [message: string];
}

export interface Engine {
  /** Null while no process is ready. */
  readonly ready: ReadyMessage | null;
  /**
   * Starts the process and resolves when the model is loaded.
   * @param checked what must be over before it counts as ready, too; where it fails, it never does
   * @throws when the first start fails for a reason that a restart can't mend (model folder, device).
   */
  start(checked?: Promise<void>): Promise<ReadyMessage>;
  /** Calls `sink.lost` when no process is ready. */
  generate(request: Omit<GenerateMessage, 'type'>, sink: SequenceSink): void;
  /** `ended` follows with that reason, unless another came first. */
  cancel(id: string, reason: CancelReason): void;
  /** Ends all live sequences as `cancel` does, but at once, whatever the engine is doing. */
  cancelAll(reason: CancelReason): void;
  on<K extends keyof EngineEvents>(event: K, listener: (...args: EngineEvents[K]) => void): this;
  /** Ends the process; live sequences end with `lost`. */
  close(): Promise<void>;
}

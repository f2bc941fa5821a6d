/**
 * The engine as the gateway sees it: token ids in, events out.
 *
 * Must not know: how the engine runs (client.ts starts the process), text, HTTP.
 */
import type {
  AuditEvent,
  AuditMessage,
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
 * Receives the events of one sequence, in order. Exactly one of `refused`, `ended` and `lost` comes last. If the request
 * asks for an audit, `audited` follows `ended`.
 */
export interface SequenceSink {
  planned(event: PlannedEvent): void;
  refused(event: RefusedEvent): void;
  prompt(event: PromptEvent): void;
  /** @param at end of the step that sampled the token */
  token(event: TokenEvent, at: number): void;
  ended(event: EndedEvent): void;
  /** @param event null where the engine process died first */
  audited?(event: AuditEvent | null): void;
  /** The engine process died or is unreachable; no further event follows. */
  lost(message: string): void;
}

export interface EngineEvents {
  /** Progress of a start: loaded parts of the model. */
  loading: [done: number, total: number];
  ready: [ReadyMessage];
  /** Emitted after the sinks were called. */
  step: [StepMessage];
  audit: [AuditMessage];
  /** The gateway ended an answer at its deadline. Its sink was called; later steps may still contain its events. */
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
   * Whether the engine takes so many sequences of a tenant at this moment: the bound of requests on their way to it, which
   * tenants share.
   * @param tokens their prompts together
   */
  hasRoom(tenant: string, sequences: number, tokens: number): boolean;
  /** Milliseconds since the gateway sent the first request that the engine has not read; 0 without one. */
  readonly unreadMs: number;
  /** Calls `sink.lost` without a ready process. */
  generate(request: Omit<GenerateMessage, 'type'>, sink: SequenceSink): void;
  /** `ended` follows with this reason, unless another end came first. */
  cancel(id: string, reason: CancelReason): void;
  /** Cancels all live sequences immediately, without waiting for the engine. */
  cancelAll(reason: CancelReason): void;
  on<K extends keyof EngineEvents>(event: K, listener: (...args: EngineEvents[K]) => void): this;
  /** Stops the process; live sequences end with `lost`. */
  close(): Promise<void>;
}

/** Collects the events of a step for its message. Must not know: why they happen. */
import type {
  EndedEvent,
  LoadSnapshot,
  PlannedEvent,
  PromptEvent,
  RejectedEvent,
  StepMessage,
  StepWork,
  TokenEvent,
} from '../../protocol/index.js';

export class StepOutput {
  readonly planned: PlannedEvent[] = [];
  readonly rejected: RejectedEvent[] = [];
  readonly prompts: PromptEvent[] = [];
  readonly tokens: TokenEvent[] = [];
  readonly ended: EndedEvent[] = [];

  /** Whether rejections or ends are pending, which must be sent without waiting for a step. */
  get hasNews(): boolean {
    return this.rejected.length + this.ended.length > 0;
  }

  /** The message with all events so far; empties the output. */
  take(at: number, load: LoadSnapshot, work: StepWork | null): StepMessage {
    return {
      type: 'step',
      at,
      planned: this.planned.splice(0),
      rejected: this.rejected.splice(0),
      prompts: this.prompts.splice(0),
      tokens: this.tokens.splice(0),
      ended: this.ended.splice(0),
      load,
      work,
    };
  }
}

/** Sortie's own report on an answer: plan, depth, times, landing. The `sortie` field of every response has it. */
import { allOptional, type Static, Type, words } from '../../../util/schema.js';
import { LANDING_TRIGGERS, SOURCES } from '../../telemetry/answer-record.js';
import { OUTCOMES } from '../../../protocol/outcome.js';

/** The sampling of an answer, in the names of the request fields. */
export const SamplingReport = Type.Object(
  {
    temperature: Type.Number(),
    top_p: Type.Number(),
    top_k: Type.Integer(),
    min_p: Type.Number(),
    presence_penalty: Type.Number(),
    frequency_penalty: Type.Number(),
    repetition_penalty: Type.Number(),
    dry_multiplier: Type.Optional(Type.Number()),
    dry_base: Type.Optional(Type.Number()),
    dry_allowed_length: Type.Optional(Type.Integer()),
  },
  {
    description:
      'The sampling of the answer, if sortie.show_sampling asks for it. Without dry_multiplier each token has the ' +
      'rule of its exit (GET /props).',
  },
);
export type SamplingReport = Static<typeof SamplingReport>;

const Landed = Type.Object(
  {
    trigger: words(LANDING_TRIGGERS, {
      description:
        'budget: the engine sought an end in time. deadline: the text goes back to its last whole sentence. ' +
        'upstream_failed: so it does, as an upstream gives no more.',
    }),
    at_token: Type.Integer({ minimum: 0, description: 'Tokens of the answer at its end.' }),
    probability: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1,
        description:
          'Of budget: the probability that the model would have ended there without one, at temperature 1. ' +
          'finish_reason is "stop" from .1, else "length".',
      }),
    ),
  },
  {
    description:
      'How the answer ended early, to keep its budget. Of several choices that landed, the shortest one counts. Absent ' +
      'for an answer that ended by itself, or was cut.',
  },
);

/** The plan at admission. An answer whose deadline comes before its plan has the class alone. */
const Plan = Type.Object({
  service_class: words(['guaranteed', 'best_effort', 'none'], {
    description:
      'guaranteed: the plan holds capacity for the prompt and for the end of a sentence, and the target is to keep ' +
      '995 of 1000 such budgets. best_effort: no exit has capacity at admission, or the budget was missed. none: ' +
      'the request states no budget.',
  }),
  ...allOptional({
    exit_layer: Type.Integer(),
    reason: words(['deepest', 'budget', 'load'], {
      description:
        'Why the first choice has its exit. deepest: the request allows no deeper one. budget: a deeper one is worth ' +
        'less within the budget. load: a deeper one costs other requests more than it gives.',
    }),
    expected_accuracy: Type.Number({
      minimum: 0,
      maximum: 1,
      description: "Share of full depth's right answers that the exit gives, as the model folder states it.",
    }),
    landing: words(['possible', 'off', 'exact_length', 'grammar'], {
      description:
        'Whether the answer may end early to keep its total budget. off: budget_on_miss says otherwise, or there is ' +
        'no total. exact_length: the request has no end token. grammar: its text can end only where the grammar says.',
    }),
    expected_tokens: Type.Integer({
      description: 'Predicted median length of the answer, on which the plan is based.',
    }),
    expected_tokens_p90: Type.Integer({ description: 'Predicted length that 90% of such answers do not exceed.' }),
    probability: Type.Number({
      minimum: 0,
      maximum: 1,
      description: 'Probability that the plan meets the total budget. Absent without a total budget.',
    }),
    predicted_ttft_ms: Type.Number(),
    predicted_tpot_ms: Type.Number(),
  }),
});

/** Sortie's own report on an answer. A field without a value is absent. */
export const SortieReport = Type.Object({
  source: words(SOURCES, {
    description: "local: the local model. upstream: a model elsewhere. net: the local model in an upstream's place.",
  }),
  plan: Plan,
  exit_layers: Type.Record(Type.String(), Type.Integer(), {
    description: 'Tokens by the exit layer that emitted them.',
  }),
  actual_ms: Type.Number(),
  ...allOptional({
    draft_tokens: Type.Integer({ description: 'Tokens drafted for the answer (speculative decoding).' }),
    accepted_draft_tokens: Type.Integer({ description: 'Drafted tokens that the exit accepted.' }),
    predicted_ms: Type.Number(),
    predicted_p10_ms: Type.Number({
      description: '80% of the actual times lie between this value and predicted_p90_ms.',
    }),
    predicted_p90_ms: Type.Number(),
    ttft_ms: Type.Number(),
    tpot_ms: Type.Number(),
    first_sentence_ms: Type.Number({
      description: 'When the first sentence was whole, if a budget is stated for it.',
    }),
    budget_ms: Type.Number(),
    outcome: words(OUTCOMES, {
      description:
        'whole: the answer ended by itself, or at its max_tokens. landed: it ended for its budget, at ' +
        'a whole sentence, item, row or closed fence. late: one of these, but over a part of its budget. cut: it ends in ' +
        'mid-text. empty: it has no output. Of several choices the worst one counts. Absent in a dry run.',
    }),
    outcomes: Type.Array(words(OUTCOMES), { description: 'The outcome of each choice, if there are several.' }),
    met: Type.Boolean({
      description: 'Whether the outcome is whole or landed. Absent without a budget, and in a dry run.',
    }),
    landed: Landed,
    queue_ms: Type.Number(),
    sampling: SamplingReport,
  }),
});
export type SortieReport = Static<typeof SortieReport>;

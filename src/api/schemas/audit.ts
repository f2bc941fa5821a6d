/** The audit of an answer in the report: a comparison with full depth. */
import { type Static, Type } from '../../util/schema.js';

const count = Type.Integer({ minimum: 0 });
const share = Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()]);

const Difference = Type.Object(
  {
    choice: Type.Integer({ minimum: 0, description: 'Index of the choice.' }),
    position: Type.Integer({ minimum: 0, description: 'Index of the token in its choice.' }),
    text_offset: Type.Integer({ minimum: 0, description: "Start of the token in its choice's text, in code points." }),
    exit_layer: Type.Integer({ description: 'The exit that wrote the token.' }),
    token: Type.String(),
    full_depth: Type.String({ description: "Full depth's most likely token at this position." }),
    rank: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()], {
      description: 'Rank of the token at full depth. Null: lower than the engine looks.',
    }),
    logprob: Type.Number({ description: 'Log-probability of the token at full depth.' }),
    full_depth_logprob: Type.Number(),
  },
  { description: 'A token that is not the most likely one at full depth.' },
);

export const AuditReport = Type.Object(
  {
    skipped: Type.Optional(
      Type.String({
        description:
          'Why the answer, or one of its choices, has no audit. off: --audit. full_depth: no token is from an early ' +
          'exit. schema: rules that audits do not repeat. cancelled. busy: no idle moment within 10 s. ' +
          'queue, stale, memory: the server is short of them. time: the audit takes over 20 s. engine_lost: the engine restarts.',
      }),
    ),
    tokens: Type.Optional(count),
    agreeing: Type.Optional(count),
    agreement: Type.Optional(share),
    probability: Type.Optional(share),
    logprob_given_up: Type.Optional(Type.Union([Type.Number({ minimum: 0 }), Type.Null()])),
    exits: Type.Optional(Type.Record(Type.String(), Type.Object({ tokens: count, agreeing: count }))),
    differences: Type.Optional(Type.Array(Difference)),
  },
  {
    description:
      'The tokens of early exits under full depth, if sortie.audit asks for it. agreeing counts those that are the ' +
      'most likely token there; probability and logprob_given_up (nats) are means. Penalties and the DRY rule apply.',
  },
);
export type AuditReport = Static<typeof AuditReport>;

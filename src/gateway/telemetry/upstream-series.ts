/** Series of models that run elsewhere. The label `upstream` is a name of the configuration. */
import { LATE_S, PER_TOKEN_S, REQUEST_S, TTFT_S } from './buckets.js';
import { counter, gauge, histogram } from './series-makers.js';

export const UPSTREAM = {
  upstreamTries: counter('upstream_tries_total', 'Requests to an upstream model, by its status and by their end.', [
    'upstream',
    'status',
    'end',
  ]),
  upstreamAnswers: counter('upstream_answers_total', 'Answers of an upstream model to clients, by outcome.', [
    'upstream',
    'outcome',
  ]),
  upstreamTtft: histogram('upstream_ttft_seconds', 'Request to the first content of an upstream model.', TTFT_S, [
    'upstream',
  ]),
  upstreamGap: histogram(
    'upstream_gap_seconds',
    'Time between two parts of the content of an upstream model.',
    PER_TOKEN_S,
    ['upstream'],
  ),
  upstreamLate: histogram(
    'upstream_last_byte_after_deadline_seconds',
    'Last byte of an answer under a budget past its deadline; 0 in time.',
    LATE_S,
    ['upstream'],
  ),
  nets: counter(
    'nets_total',
    'Answers of an upstream model with a net or without one, by its result and its trigger.',
    ['upstream', 'result', 'trigger'],
  ),
  netLead: histogram('net_lead_seconds', 'Start of a net to the deadline of its answer.', REQUEST_S, ['upstream']),
  breaker: gauge('upstream_breaker_open', '1 while an upstream failed so often in a row that few requests try it.', [
    'upstream',
  ]),
  netSeconds: counter('net_seconds_total', 'Time that nets ran, by their result: overtaken ones ran for nothing.', [
    'upstream',
    'result',
  ]),
};

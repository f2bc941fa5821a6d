/** The series that vLLM has as well. Each keeps vLLM's name after the prefix, and vLLM's meaning. */
import { COUNT, PER_TOKEN_S, REQUEST_S, STEP_TOKENS, TOKENS, TTFT_S } from './buckets.js';
import { counter, gauge, histogram } from './series-makers.js';

export const SHARED = {
  running: gauge('num_requests_running', 'Sequences that hold a slot.'),
  waiting: gauge('num_requests_waiting', 'Sequences that wait for a slot.'),
  waitingBy: gauge(
    'num_requests_waiting_by_reason',
    'Waiting sequences by reason: capacity (slot or KV memory) or deferred (their grammar is being compiled).',
    ['reason'],
  ),
  kvUsage: gauge('kv_cache_usage_perc', 'Share of the KV budget in use by running sequences, 0 to 1.'),
  cacheConfig: gauge('cache_config_info', 'KV capacity in whole blocks: tokens = block_size x num_gpu_blocks.', [
    'block_size',
    'num_gpu_blocks',
  ]),
  promptTokens: counter('prompt_tokens_total', 'Prompt tokens of finished sequences.'),
  promptTokensCached: counter('prompt_tokens_cached_total', 'Prompt tokens that prefix reuse saved.'),
  promptTokensBy: counter('prompt_tokens_by_source_total', 'Prompt tokens by source.', ['source']),
  generationTokens: counter('generation_tokens_total', 'Tokens generated.'),
  iterationTokens: histogram('iteration_tokens_total', 'Prompt and answer tokens of an engine step.', STEP_TOKENS),
  success: counter('request_success_total', 'Sequences that finished with an answer.', ['finished_reason']),
  prefixQueries: counter('prefix_cache_queries_total', 'Prompt tokens looked up for prefix reuse.'),
  prefixHits: counter('prefix_cache_hits_total', 'Prompt tokens reused from the prefix cache.'),
  preemptions: counter('num_preemptions_total', 'Preemptions: a running sequence loses its slot and runs again.'),
  ttft: histogram('time_to_first_token_seconds', 'Arrival to first token.', TTFT_S),
  itl: histogram('inter_token_latency_seconds', 'Time between two tokens of a sequence.', PER_TOKEN_S),
  tpot: histogram('request_time_per_output_token_seconds', 'Mean time per token after the first.', PER_TOKEN_S),
  e2e: histogram('e2e_request_latency_seconds', 'Arrival to the last token.', REQUEST_S),
  queueTime: histogram('request_queue_time_seconds', 'Arrival to start.', REQUEST_S),
  prefillTime: histogram('request_prefill_time_seconds', 'Start to first token.', REQUEST_S),
  decodeTime: histogram('request_decode_time_seconds', 'First to last token.', REQUEST_S),
  inferenceTime: histogram('request_inference_time_seconds', 'Start to last token.', REQUEST_S),
  requestPromptTokens: histogram('request_prompt_tokens', 'Prompt tokens of a sequence.', TOKENS),
  requestComputedTokens: histogram(
    'request_prefill_kv_computed_tokens',
    'Prompt tokens of a sequence without those from the prefix cache.',
    TOKENS,
  ),
  requestGenerationTokens: histogram('request_generation_tokens', 'Tokens generated for a sequence.', TOKENS),
  requestMaxTokens: histogram('request_params_max_tokens', 'max_tokens of a sequence.', TOKENS),
  requestMaxGenerated: histogram(
    'request_max_num_generation_tokens',
    'Tokens of the longest of the n answers to a prompt.',
    TOKENS,
  ),
  requestN: histogram('request_params_n', 'Answers per prompt that a request asks for.', COUNT),
  requestPreemptions: histogram('request_num_preemptions', 'Preemptions of a sequence.', [0, ...COUNT]),
  drafts: counter('spec_decode_num_drafts_total', 'Drafts verified, by their source.', ['source']),
  draftTokens: counter('spec_decode_num_draft_tokens_total', 'Tokens drafted, by their source.', ['source']),
  acceptedTokens: counter(
    'spec_decode_num_accepted_tokens_total',
    'Drafted tokens that the exit layer accepted, by their source.',
    ['source'],
  ),
  acceptedAt: counter(
    'spec_decode_num_accepted_tokens_per_pos_total',
    'Drafted tokens that the exit layer accepted, by their position in the draft.',
    ['position'],
  ),
};

#!/bin/sh
# vLLM's router before two replicas of Sortie. Tested with vllm-router 0.1.17: pip install vllm-router.
#   node dist/src/main.js serve --port 8081   # and 8082
#   sh deploy/vllm-router/run.sh
# consistent_hash keeps a conversation (X-Session-Id) at its replica. --health-check-endpoint: the default, /health, stays
# up while a replica drains. --retry-max-retries counts attempts: the first one, and one more. Its circuit breaker counts
# the 429 and 503 of hopeless budgets as faults of the replica, so it is off.
exec vllm-router --host 127.0.0.1 --port 8080 --prometheus-port 8404 \
  --worker-urls http://127.0.0.1:8081 http://127.0.0.1:8082 \
  --policy consistent_hash \
  --health-check-endpoint /health/ready --health-check-interval-secs 1 --health-check-timeout-secs 1 \
  --health-failure-threshold 1 --health-success-threshold 1 \
  --retry-max-retries 2 --retry-initial-backoff-ms 5 --disable-circuit-breaker \
  --max-payload-size 4194304 "$@"

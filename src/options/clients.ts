/** The options about clients: access and connections. */
import { bytes, integer, list, networkList, onOff, optionalText, originList, seconds, secretList } from './kinds.js';
import { type Group, spec } from './spec.js';

export const access = {
  apiKey: spec('api-key', 'KEYS', secretList, [], 'API keys; the process list shows this flag', 'none'),
  apiKeyFile: spec(
    'api-key-file',
    'FILE',
    optionalText,
    null,
    'file with an API key a line, or JSON with limits and bounds of each key',
    'none',
  ),
  allowedHosts: spec(
    'allowed-hosts',
    'NAMES',
    list,
    [],
    'names in the Host header that are served, or *; localhost, IP addresses and names without a dot always are',
    'any; local names only for a server without keys on a loopback address',
  ),
  trustedProxies: spec(
    'trusted-proxies',
    'ADDRESSES',
    networkList,
    [],
    'proxies whose X-Request-Start, X-Forwarded-For, X-Forwarded-Proto and traceparent are believed',
    'none',
  ),
  corsOrigin: spec('cors-origin', 'ORIGINS', originList, [], 'origins of web pages that may call, or *', 'none'),
} as const satisfies Group;

export const clients = {
  maxBody: spec(
    'max-body',
    'SIZE',
    bytes(1024, '1KiB'),
    4 * 2 ** 20,
    'largest request body; a larger one gets a 413',
    '4MiB',
  ),
  maxConnections: spec(
    'max-connections',
    'N',
    integer(1, 1_000_000, 'connections'),
    4096,
    'most open connections of a port; further ones are closed',
  ),
  requestTimeout: spec(
    'request-timeout',
    'SECONDS',
    seconds(0.1, 3600),
    30,
    'time for a request to arrive in full; a slower one gets a 408',
  ),
  stallTimeout: spec(
    'stall-timeout',
    'SECONDS',
    seconds(0.1, 3600),
    60,
    'time without reading after which the connection of a client is closed',
  ),
  keepAlive: spec('keep-alive', 'SECONDS', seconds(0.1, 3600), 15, 'interval of comment lines in a silent stream'),
  readyWait: spec(
    'ready-wait',
    'SECONDS',
    seconds(0.1, 86_400),
    60,
    'predicted wait of a new request above which /health/ready is a 503',
  ),
  loadHeader: spec(
    'load-header',
    'on|off',
    onOff,
    false,
    'X-Sortie-Load in every response, the wait of a new request in ms, and endpoint-load-metrics for Envoy',
  ),
} as const satisfies Group;

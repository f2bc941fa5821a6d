/** The options of the process: configuration file, addresses, model, shutdown, log and metrics. */
import { availableParallelism } from 'node:os';
import {
  bytes,
  device,
  type DeviceChoice,
  integer,
  nameList,
  oneOf,
  onOff,
  optionalPort,
  optionalText,
  seconds,
  servedKernelList,
  text,
} from './kinds.js';
import { EMBEDDED_MODEL } from './paths.js';
import { type Group, spec } from './spec.js';

export const configurationFile = {
  config: spec(
    'config',
    'FILE',
    optionalText,
    null,
    'YAML or JSON file with an entry for each option; flags and variables win over it',
    'none',
  ),
} as const satisfies Group;

export const addressAndPorts = {
  port: spec('port', 'N', integer(0, 65535), 8080, 'port to listen on; 0 takes a free one'),
  opsPort: spec(
    'ops-port',
    'N',
    optionalPort,
    null,
    'moves /metrics and the API documents to a port with its own connection limit',
    'none',
  ),
  mainMetrics: spec('main-metrics', 'on|off', onOff, false, 'keeps /metrics on the first port beside --ops-port'),
  host: spec(
    'host',
    'ADDRESS',
    optionalText,
    null,
    'address to listen on; 127.0.0.1: this machine only, 0.0.0.0: every address',
    '127.0.0.1, or 0.0.0.0 with API keys',
  ),
} as const satisfies Group;

export const modelAndHardware = {
  model: spec(
    'model',
    'MODEL',
    text,
    EMBEDDED_MODEL,
    'model folder that `sortie convert` wrote; or a GGUF file, a Hugging Face folder or ORG/NAME[@REVISION][:FILE] of the ' +
      'Hugging Face Hub, each converted once into --cache-dir',
    'the embedded model',
  ),
  modelName: spec(
    'model-name',
    'NAMES',
    nameList,
    [],
    'model names in requests; all name the one model, and an answer has the name of its request',
    "the manifest's name",
  ),
  samplingDefaults: spec(
    'sampling-defaults',
    'SOURCE',
    oneOf('model', 'openai'),
    'model',
    "sampling of requests that state none: the model's, or temperature 1, top_p 1 and no rule",
  ),
  kernels: spec('kernels', 'LIST', servedKernelList, null, 'kernels to load and measure', 'all of the folder'),
  device: spec<DeviceChoice>(
    'device',
    'NAME',
    device,
    { kind: 'cpu', index: 0 },
    'hardware that runs the model; cuda is cuda:0',
    'cpu',
  ),
  threads: spec(
    'threads',
    'N',
    integer(1, 1024, 'threads'),
    availableParallelism(),
    'threads of the engine: physical cores that no other process needs',
    'all cores',
  ),
  kvMemory: spec('kv-memory', 'SIZE', bytes(2 ** 20, '1MiB'), 2 ** 30, 'memory of the KV cache', '1GiB'),
} as const satisfies Group;

export const shutdownLogAndMetrics = {
  drainTimeout: spec(
    'drain-timeout',
    'SECONDS',
    seconds(0, 3600),
    30,
    'time that running answers have to finish after SIGTERM',
  ),
  logLevel: spec(
    'log-level',
    'LEVEL',
    oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    'info',
    'least severe level that is logged',
  ),
  logFormat: spec(
    'log-format',
    'FORMAT',
    oneOf('auto', 'pretty', 'json'),
    'auto',
    'form of the log; auto: pretty on a terminal, JSON elsewhere',
  ),
  logPrompts: spec('log-prompts', 'on|off', onOff, false, 'writes request bodies to the log'),
  metricsPrefix: spec(
    'metrics-prefix',
    'PREFIX',
    oneOf('sortie_', 'vllm:'),
    'sortie_',
    "prefix of the series that vLLM has too; vllm: serves vLLM's dashboards",
  ),
} as const satisfies Group;

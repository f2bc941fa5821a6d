/** The table of all options: flag, default, unit, range, effect. */
import { access, clients } from './clients.js';
import { audits, capacity, depthAndLength } from './engine.js';
import { measuredCosts, planning, requestsWithoutBudget } from './planning.js';
import { addressAndPorts, configurationFile, modelAndHardware, shutdownLogAndMetrics } from './process.js';
import type { Group, OptionSpec } from './spec.js';

/** The options by topic, in the order of --help. */
export const OPTION_GROUPS = {
  'Configuration file': configurationFile,
  'Address and ports': addressAndPorts,
  'Model and hardware': modelAndHardware,
  Capacity: capacity,
  'Depth and length': depthAndLength,
  Audits: audits,
  'Requests without a budget': requestsWithoutBudget,
  Planning: planning,
  'Measured costs': measuredCosts,
  Access: access,
  Clients: clients,
  'Shutdown, log and metrics': shutdownLogAndMetrics,
} as const satisfies Record<string, Group>;

/** Every option by its key. */
export const SERVE_OPTIONS = {
  ...configurationFile,
  ...addressAndPorts,
  ...modelAndHardware,
  ...capacity,
  ...depthAndLength,
  ...audits,
  ...requestsWithoutBudget,
  ...planning,
  ...measuredCosts,
  ...access,
  ...clients,
  ...shutdownLogAndMetrics,
} as const satisfies Group;

/** The value of every option. */
export type ServeOptions = {
  readonly [K in keyof typeof SERVE_OPTIONS]: (typeof SERVE_OPTIONS)[K] extends OptionSpec<infer T> ? T : never;
};

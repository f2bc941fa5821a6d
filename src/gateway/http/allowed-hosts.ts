/** The hosts that this server serves. */
import { isIP } from 'node:net';
import { chooseHost } from '../serve/address.js';
import { ApiError } from '../api/errors.js';
import { quoted } from '../../util/quoted.js';
import type { GatewayContext, Step } from './context.js';

/** Names that no public DNS server resolves. */
const LOCAL = /^[^.]+$|\.(localhost|internal)$/;

/** The name of a Host header in lower case, without port and brackets; null for a malformed header. */
function nameOf(host: string): string | null {
  if (!URL.canParse(`http://${host}`)) return null;
  return new URL(`http://${host}`).hostname.replace(/^\[|\]$|\.$/g, '').toLowerCase();
}

/** Whether only this machine reaches an address to listen on. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

/**
 * The names in the Host header that the server serves.
 *
 * A web page can point its own name at 127.0.0.1 (DNS rebinding), and its scripts may then call a server on this
 * machine. Their requests carry the page's name in Host. An attacker owns neither an IP address, a reserved name nor a
 * name without a dot, so these always pass.
 *
 * @param needsKey whether requests need a key: a page without one can call nothing of interest, so any host passes by
 * default
 */
export function hostAllowed({ options, apiKeys }: GatewayContext, needsKey: boolean): Step {
  const { address } = chooseHost(options.host, apiKeys.length);
  const { allowedHosts } = options;
  const isOpen = allowedHosts.length === 0 && (needsKey || !isLoopback(address));
  if (isOpen || allowedHosts.includes('*')) return () => undefined;
  const names = new Set([address, ...allowedHosts].map((each) => nameOf(each)));
  return ({ headers: { host } }) => {
    if (host === undefined) return;
    const name = nameOf(host);
    if (name !== null && (isIP(name) !== 0 || LOCAL.test(name) || names.has(name))) return;
    const message = `This server does not serve the host ${quoted(host)}; its operator can add it to --allowed-hosts.`;
    throw new ApiError('host_not_allowed', message, 'host');
  };
}

/** The network of a client without a key, by which such clients are told apart. */
import { isIPv6 } from 'node:net';

/** Groups of an IPv6 address that name a network: a client has all addresses of its /64. */
const GROUPS = 4;

/** @returns an IPv4 address as it is, and an IPv6 address without its last 64 bits */
export function networkOf(address: string): string {
  const [bare = ''] = address.split('%');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.[1];
  if (mapped !== undefined || !isIPv6(bare)) return mapped ?? address;
  const [head = '', tail = ''] = bare.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === '' ? [] : tail.split(':');
  const zeros = bare.includes('::') ? Array.from({ length: 8 - before.length - after.length }, () => '0') : [];
  const groups = [...before, ...zeros, ...after].slice(0, GROUPS);
  return groups.map((group) => parseInt(group, 16).toString(16)).join(':');
}

/** The rules of values. Each kind parses a text and completes "must be ..." for a text that breaks its rule. */
import proxyAddr from '@fastify/proxy-addr';
import type { Kind } from './spec.js';

export const integer = (min: number, max: number, unit = ''): Kind<number> => ({
  rule: `an integer from ${min} to ${max}`,
  type: `integer, ${min} to ${max}`,
  unit,
  parse: (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

export const seconds = (min: number, max: number): Kind<number> => ({
  rule: `a number of seconds from ${min} to ${max}`,
  type: `number, ${min} to ${max}`,
  unit: 's',
  parse: (text) => {
    const value = /^\d+(\.\d+)?s?$/.test(text) ? Number(text.replace('s', '')) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  K: 2 ** 10,
  KIB: 2 ** 10,
  KB: 1e3,
  M: 2 ** 20,
  MIB: 2 ** 20,
  MB: 1e6,
  G: 2 ** 30,
  GIB: 2 ** 30,
  GB: 1e9,
  T: 2 ** 40,
  TIB: 2 ** 40,
  TB: 1e12,
};

export const bytes = (min: number, minText: string): Kind<number> => ({
  rule: `a size of at least ${minText}, such as 512MiB or 2GiB`,
  type: `size, at least ${minText}`,
  unit: 'bytes',
  parse: (text) => {
    const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text);
    const unit = UNITS[(match?.[2] ?? '').toUpperCase()];
    if (match === null || unit === undefined) return undefined;
    const value = Math.floor(Number(match[1]) * unit);
    return value >= min && value <= Number.MAX_SAFE_INTEGER ? value : undefined;
  },
});

export const oneOf = <const T extends string>(...values: readonly T[]): Kind<T> => ({
  rule: `one of ${values.join(', ')}`,
  values,
  type: values.join(', '),
  parse: (text) => values.find((value) => value === text),
});

export interface DeviceChoice {
  readonly kind: 'cpu' | 'cuda' | 'webgpu';
  /** Number of the GPU; 0 for the CPU. */
  readonly index: number;
}

export const device: Kind<DeviceChoice> = {
  rule: 'cpu, webgpu, cuda, or a card such as cuda:1',
  type: 'cpu, webgpu, cuda or cuda:N',
  values: ['cpu', 'cuda', 'webgpu'],
  parse: (text) => {
    const [, kind, index = '0'] = /^(cpu|cuda|webgpu)(?::(\d{1,3}))?$/.exec(text.trim()) ?? [];
    if (kind === 'cpu') return text.includes(':') ? undefined : { kind, index: 0 };
    return kind === 'cuda' || kind === 'webgpu' ? { kind, index: Number(index) } : undefined;
  },
};

export const onOff: Kind<boolean> = {
  rule: 'on or off',
  type: 'on or off',
  parse: (text) => {
    const word = text.toLowerCase();
    if (['on', 'true', '1'].includes(word)) return true;
    return ['off', 'false', '0'].includes(word) ? false : undefined;
  },
};

export const prefixReuse: Kind<'off' | 'key' | 'all'> = {
  rule: 'off, key or all',
  type: 'off, key, all',
  parse: (text) => (['off', 'key', 'all'] as const).find((value) => value === text),
};

export const text: Kind<string> = {
  rule: 'a text',
  type: 'text',
  parse: (value) => (value === '' ? undefined : value),
};

export const optionalText: Kind<string | null> = text;

export const modelName: Kind<string> = {
  rule: 'a name of letters, digits, ".", "_", "-" and "/" (a colon separates the depth)',
  type: 'name',
  parse: (value) => (/^[\w.\-/]{1,128}$/.test(value) ? value : undefined),
};

export const nameList: Kind<readonly string[]> = {
  rule: 'different names of letters, digits, ".", "_", "-" and "/", separated by commas',
  type: 'list of names',
  parse: (value) => {
    const items = value.split(',').map((item) => item.trim());
    const isValid = items.every((item) => modelName.parse(item) !== undefined) && new Set(items).size === items.length;
    return isValid ? items : undefined;
  },
};

export const list: Kind<readonly string[]> = {
  rule: 'a list separated by commas',
  type: 'list',
  parse: (value) => {
    const items = value.split(',').map((item) => item.trim());
    return items.every((item) => item !== '') ? items : undefined;
  },
};

/** Whether the library reads every item as an address, a network or one of its names. */
function areNetworks(items: readonly string[]): boolean {
  try {
    proxyAddr.compile([...items]);
    return true;
  } catch {
    return false;
  }
}

export const networkList: Kind<readonly string[]> = {
  rule: 'a list of IP addresses, networks such as 10.0.0.0/8, loopback, linklocal or uniquelocal, separated by commas',
  type: 'list of addresses, networks, loopback, linklocal, uniquelocal',
  parse: (value) => {
    const items = list.parse(value);
    return items !== undefined && areNetworks(items) ? items : undefined;
  },
};

export const secretList: Kind<readonly string[]> = { ...list, isSecret: true };

/** Whether the text is an origin as browsers write it: scheme, host, and the port if it is not the scheme's default. */
function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, host } = new URL(text);
  return host !== '' && `${protocol}//${host}` === text;
}

export const originList: Kind<readonly string[]> = {
  rule: 'a list of origins such as https://app.example (no path, no slash at the end) separated by commas, or *',
  type: 'list of origins, or *',
  parse: (value) => {
    const items = list.parse(value);
    return items?.every((item) => item === '*' || isOrigin(item)) === true ? items : undefined;
  },
};

const listOf = <const T extends string>(...known: readonly T[]): Kind<readonly T[] | null> => ({
  rule: `a list of ${known.join(', ')}, separated by commas`,
  type: `list of ${known.join(', ')}`,
  parse: (value) => {
    const items = value.split(',').map((item) => known.find((kernel) => kernel === item.trim()));
    // The engine loads and measures each kernel of the list, so a repeated name counts once.
    return items.every((item) => item !== undefined) ? [...new Set(items)] : undefined;
  },
});

/** Kernels that `convert` writes. */
export const kernelList = listOf('int4', 'w8a8', 'fp32', 'fp16', 'w8a16', 'w4a16');
/** Kernels that an operator names for the engine. */
export const servedKernelList = listOf('int4', 'w8a8', 'fp32', 'fp16', 'w8a16', 'w4a16', 'int8');

export const optionalPort: Kind<number | null> = integer(0, 65535);

export const fraction = (min: number, max: number, unit: string): Kind<number> => ({
  rule: `a number from ${min} to ${max}`,
  type: `number, ${min} to ${max}`,
  unit,
  parse: (text) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

export const optionalShare: Kind<number | null> = fraction(0, 1, 'share');

export const optionalMs: Kind<number | null> = integer(1, 86_400_000, 'ms');

export const optionalTokens: Kind<number | null> = integer(1, 1_000_000, 'tokens');

export const optionalLayer: Kind<number | null> = integer(1, 9999, 'layer');

export const auditMode: Kind<'off' | 'idle' | number> = {
  rule: 'off, idle, or a number from 0.01 to 1',
  type: 'off, idle, or number, 0.01 to 1',
  unit: 'share',
  parse: (value) => (value === 'off' || value === 'idle' ? value : fraction(0.01, 1, '').parse(value)),
};

export const exitLayer: Kind<number | null> = {
  rule: 'an exit layer of the model, or "deepest"',
  type: 'integer, or deepest',
  unit: 'layer',
  parse: (value) => (value === 'deepest' ? null : /^[1-9]\d{0,3}$/.test(value) ? Number(value) : undefined),
};

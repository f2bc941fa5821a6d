/** The rules of values. Each kind parses a text and completes "must be ..." for a text that breaks its rule. */
import proxyAddr from '@fastify/proxy-addr';

/** The rule that turns an option's text into its value. */
export interface Kind<T> {
  /** Completes "must be ...". */
  readonly rule: string;
  /** The placeholder of the value in --help. */
  readonly placeholder: string;
  /** Every value, if the option has a closed set. */
  readonly values?: readonly string[];
  /** The rule in short, for the table in docs/configuration.md. */
  readonly type: string;
  /** Unit of a plain number. */
  readonly unit?: string;
  /** @returns undefined when the text breaks the rule. */
  parse(text: string): T | undefined;
  /** Keeps a wrong text out of the error message, because error messages reach logs. */
  readonly isSecret?: true;
}

export const integer = (min: number, max: number, unit = ''): Kind<number> => ({
  rule: `an integer from ${min} to ${max}`,
  placeholder: unit === '' ? 'N' : unit.toUpperCase(),
  type: `integer, ${min} to ${max}`,
  unit,
  parse: (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

/** A share of a whole. */
export const share = (min: number): Kind<number> => ({
  rule: `a number from ${min} to 1`,
  placeholder: 'SHARE',
  type: `number, ${min} to 1`,
  unit: 'share',
  parse: (text) => decimal(text, min, 1),
});

export const seconds = (min: number, max: number): Kind<number> => ({
  rule: `a number of seconds from ${min} to ${max}`,
  placeholder: 'SECONDS',
  type: `number, ${min} to ${max}`,
  unit: 's',
  parse: (text) => decimal(text.replace(/s$/, ''), min, max),
});

function decimal(text: string, min: number, max: number): number | undefined {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  return value >= min && value <= max ? value : undefined;
}

const SIZE_PREFIXES = ['', 'K', 'M', 'G', 'T'];

export const bytes = (min: number, minText: string): Kind<number> => ({
  rule: `a size of at least ${minText}, such as 512MiB or 2GiB`,
  placeholder: 'SIZE',
  type: `size, at least ${minText}`,
  unit: 'bytes',
  parse: (text) => {
    const [, digits, prefix = '', unit] = /^(\d+(?:\.\d+)?)\s*(?:([KMGT])(iB|B)?|B)?$/i.exec(text) ?? [];
    const isDecimal = unit?.toUpperCase() === 'B';
    const scale = (isDecimal ? 1000 : 1024) ** SIZE_PREFIXES.indexOf(prefix.toUpperCase());
    const value = Math.floor(Number(digits) * scale);
    return value >= min && value <= Number.MAX_SAFE_INTEGER ? value : undefined;
  },
});

export const oneOf = <const T extends string>(placeholder: string, ...values: readonly T[]): Kind<T> => ({
  rule: `one of ${values.join(', ')}`,
  placeholder,
  values,
  type: values.join(', '),
  parse: (text) => values.find((value) => value === text),
});

/** The action for an answer that would be late. */
export const onMiss = oneOf('ACTION', 'land', 'continue', 'truncate', 'reject');

export interface DeviceChoice {
  readonly kind: 'cpu' | 'cuda' | 'webgpu';
  /** Number of the GPU; 0 for the CPU. */
  readonly index: number;
}

export const device: Kind<DeviceChoice> = {
  rule: 'cpu, webgpu, cuda, or a card such as cuda:1',
  placeholder: 'NAME',
  type: 'cpu, webgpu, cuda or cuda:N',
  values: ['cpu', 'cuda', 'webgpu'],
  parse: (text) => {
    const [, kind, index = '0'] = /^(cpu|cuda|webgpu)(?::(\d{1,3}))?$/.exec(text.trim()) ?? [];
    if (kind === 'cpu') return text.includes(':') ? undefined : { kind, index: 0 };
    return kind === 'cuda' || kind === 'webgpu' ? { kind, index: Number(index) } : undefined;
  },
};

/** The placeholder marks a switch, which may stand alone. */
export const ON_OFF = 'on|off';

export const onOff: Kind<boolean> = {
  rule: 'on or off',
  placeholder: ON_OFF,
  type: 'on or off',
  parse: (text) => {
    const word = text.toLowerCase();
    if (['on', 'true', '1'].includes(word)) return true;
    return ['off', 'false', '0'].includes(word) ? false : undefined;
  },
};

export const text = (placeholder: string): Kind<string> => ({
  rule: 'a text',
  placeholder,
  type: 'text',
  parse: (value) => (value === '' ? undefined : value),
});

export const modelName: Kind<string> = {
  rule: 'a name of letters, digits, ".", "_", "-" and "/" (a colon separates the depth)',
  placeholder: 'NAME',
  type: 'name',
  parse: (value) => (/^[\w.\-/]{1,128}$/.test(value) ? value : undefined),
};

/** A list separated by commas. @param rule and type of a list whose items have a rule, `accepts` */
export const list = (
  placeholder: string,
  { rule = 'a list separated by commas', type = 'list' } = {},
  accepts: (items: readonly string[]) => boolean = () => true,
): Kind<readonly string[]> => ({
  rule,
  placeholder,
  type,
  parse: (value) => {
    const items = value.split(',').map((item) => item.trim());
    return items.every((item) => item !== '') && accepts(items) ? items : undefined;
  },
});

export const secretList: Kind<readonly string[]> = { ...list('KEYS'), isSecret: true };

export const nameList = list(
  'NAMES',
  {
    rule: 'different names of letters, digits, ".", "_", "-" and "/", separated by commas',
    type: 'list of names',
  },
  (items) => items.every((item) => modelName.parse(item) !== undefined) && new Set(items).size === items.length,
);

export const networkList = list(
  'ADDRESSES',
  {
    rule: 'a list of IP addresses, networks such as 10.0.0.0/8, loopback, linklocal or uniquelocal, separated by commas',
    type: 'list of addresses, networks, loopback, linklocal, uniquelocal',
  },
  (items) => {
    try {
      proxyAddr.compile([...items]);
      return true;
    } catch {
      return false;
    }
  },
);

/** Whether the text is an origin as browsers write it: scheme, host, and the port if it is not the scheme's default. */
function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, host } = new URL(text);
  return host !== '' && `${protocol}//${host}` === text;
}

/** The base of an API. */
export const apiUrl: Kind<string> = {
  rule: 'a URL such as https://api.example.com/v1, with no name and no password',
  placeholder: 'URL',
  type: 'http or https URL',
  parse: (value) => {
    if (!URL.canParse(value)) return undefined;
    const { protocol, username, password, hash } = new URL(value);
    return /^https?:$/.test(protocol) && username + password + hash === '' ? value : undefined;
  },
};

export const headerName: Kind<string> = {
  rule: 'the name of a header',
  placeholder: 'NAME',
  type: 'header name',
  parse: (value) => (/^[A-Za-z][A-Za-z0-9-]{0,63}$/.test(value) ? value : undefined),
};

export const originList = list(
  'ORIGINS',
  {
    rule: 'a list of origins such as https://app.example (no path, no slash at the end) separated by commas, or *',
    type: 'list of origins, or *',
  },
  (items) => items.every((item) => item === '*' || isOrigin(item)),
);

const listOf = <const T extends string>(...known: readonly T[]): Kind<readonly T[]> => ({
  rule: `a list of ${known.join(', ')}, separated by commas`,
  placeholder: 'LIST',
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

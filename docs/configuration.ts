/** Prints docs/configuration.md from the table of options: `npm run docs:configuration`. */
import { defaultText, environmentName, OPTION_GROUPS, type OptionSpec } from '../src/config.js';

const INTRO = `<!-- Written by \`npm run docs:configuration\` from the table of options. -->

# Configuration

Each option is a flag, an environment variable, and an entry of the file that \`--config\` names. A flag wins over its
variable, and the variable over the file. An empty variable counts as unset.

- \`npm start -- --help\` prints the same table.
- A switch (\`on or off\`) that stands alone is on: \`--log-prompts\`.
- A size takes a suffix: \`512MiB\`, \`2GiB\` and \`1.5GiB\` are powers of two, \`500MB\` is a power of ten.
- A value that breaks its rule ends the process with code 2. The message names the option, the rule and the value.
- A file is YAML or JSON with flags as names: \`port: 9000\`, \`max-queue: 64\`, \`cors-origin: [https://app.example]\`. Paths
  start at the working folder. An unknown name ends the process.
- The variables of OpenTelemetry set up traces: [metrics and traces](metrics.md#traces).
`;

const LIMITS = `
## Fixed limits

No option changes these limits.

| Limit | Value | Beyond it |
| --- | --- | --- |
| Prompt and answer of a sequence | context of the model, or the capacity of \`--kv-memory\` (\`max_model_len\`) | 400 \`context_length_exceeded\` |
| Request headers | 16 KiB | 431 \`headers_too_large\` |
| Texts over 8,192 characters without a place to split (base64), in tokenization | 8, one after another | 429 \`queue_full\` |
| Stop strings; stop token ids; log-probabilities | 4; 64; 20 | 400 |
| JSON schema | 32,768 characters, 64 levels, counts up to 4,096, 8,192 schemas where unions meet | 400 |
| Constrained answers (JSON, tools) at a time | 8 | the ninth waits |
| Budget | above 0, at most a day | 400 |
| Depth changes in a trace | the first 64 of an answer | the attribute \`sortie.replans\` has the number |
| Models | one in a process; no LoRA, no images, one machine | 400, 404 |
`;

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

const HEADER = [
  row(['Flag', 'Variable', 'Type', 'Default', 'Unit', 'Effect']),
  row(['---', '---', '---', '---', '---', '---']),
];

function optionRow(spec: OptionSpec<unknown>): string {
  const { flag, kind, help } = spec;
  return row([
    `\`--${flag}\``,
    `\`${environmentName(flag)}\``,
    kind.type,
    defaultText(spec),
    kind.unit ?? '',
    help,
  ]).replaceAll(/ {2,}/g, ' ');
}

const groups = Object.entries(OPTION_GROUPS).map(([title, specs]) => {
  const rows = (Object.values(specs) as OptionSpec<unknown>[]).map(optionRow);
  return `\n## ${title}\n\n${[...HEADER, ...rows].join('\n')}\n`;
});

process.stdout.write(`${INTRO}${groups.join('')}${LIMITS}`);

/** Prints docs/configuration.md from the table of options: `npm run docs:configuration`. */
import { defaultText, type OptionSpec, SERVE_OPTIONS } from '../src/cli/options/config.js';

const INTRO = `<!-- Written by \`npm run docs:configuration\` from the table of options. -->

# Configuration

For an operator: every option of the server, as \`npm start -- --help\` prints it. An option is a flag
(\`--max-queue 64\`), an environment variable (\`SORTIE_MAX_QUEUE=64\`), and an entry of the file that \`--config\` names
(\`max-queue: 64\`, YAML or JSON). A flag wins over its variable, and the variable over the file. An empty variable
counts as unset.

- A switch (\`on or off\`) that stands alone is on: \`--log-prompts\`.
- A size takes a suffix: \`512MiB\`, \`2GiB\` and \`1.5GiB\` are powers of two, \`500MB\` is a power of ten.
- A wrong value, or an unknown name in the file, ends the process with code 2. The message names option, rule and value.
- Lists of the file are YAML's: \`cors-origin: [https://app.example]\`. Its paths start at the working folder.
- [Upstream models](upstream.md#several-upstreams) have two sections of the file, and [traces](metrics.md#traces) the
  variables of OpenTelemetry.
`;

const LIMITS = `
## Fixed limits

| Limit | Value | Beyond it |
| - | - | - |
| Prompt and answer of a sequence | context of the model, or what \`--kv-memory\` holds (\`max_model_len\`) | 400 \`context_length_exceeded\` |
| Request headers | 16 KiB | 431 |
| Texts over 8,192 characters without a place to split (base64), in tokenization | 8, one after another | 429 \`queue_full\` |
| Stop strings; their characters; stop token ids; log-probabilities | 64; 256; 64; 20 | 400 |
| Budget | above 0, at most a day | 400 |
`;

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

const HEADER = [row(['Flag', 'Type (unit)', 'Default', 'Effect']), row(['-', '-', '-', '-'])];

function optionRow(spec: OptionSpec<unknown>): string {
  const { flag, kind, help } = spec;
  const unit = kind.unit === undefined || kind.unit === '' ? '' : ` (${kind.unit})`;
  return row([`\`--${flag}\``, `${kind.type}${unit}`, defaultText(spec), help]);
}

const specs = Object.values(SERVE_OPTIONS);
const groups = [...new Set(specs.map(({ group }) => group))].map((title) => {
  const rows = specs.filter(({ group }) => group === title).map(optionRow);
  return `\n## ${title}\n\n${[...HEADER, ...rows].join('\n')}\n`;
});

process.stdout.write(`${INTRO}${groups.join('')}${LIMITS}`);

// Imports run one way (ARCHITECTURE.md): http -> api -> engine/client and engine/protocol.ts. In the engine process:
// engine -> router | model; router -> cost; model -> runtime. Text is apart from tensors. util imports nothing of src.
// In src, only the command line imports hub, simulate, convert, load and chat, and no file imports bench. remote, load and chat
// know other servers by HTTP alone.
import importX from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';
import noImportCycle from './.ci/no-import-cycle.js';

/** The folders of src. */
const folders = [
  ...['util', 'options', 'runtime', 'model', 'text', 'cost', 'router', 'engine', 'telemetry', 'quality'],
  ...['api', 'http', 'web', 'hub', 'convert', 'simulate', 'remote', 'load', 'chat'],
];

/** The command line and the wiring, which no folder below imports. */
const root = ['main.ts', 'cli.ts', 'cli', 'serve.ts'];

/** The folders that each folder imports. The gateway's part of the engine has a rule of its own. */
const layers = {
  util: [],
  options: ['router'],
  runtime: ['util'],
  model: ['util', 'runtime'],
  text: ['util'],
  cost: ['util'],
  router: ['util', 'cost'],
  engine: ['util', 'runtime', 'model', 'text', 'cost', 'router'],
  telemetry: ['util', 'engine'],
  quality: ['util'],
  api: ['util', 'model', 'text', 'engine', 'telemetry', 'quality'],
  http: ['util', 'text', 'engine', 'telemetry', 'quality', 'api'],
  hub: ['util'],
  convert: ['util', 'runtime', 'model', 'text'],
  remote: [],
  load: ['util', 'remote'],
  chat: ['remote'],
  simulate: ['util', 'cost', 'router', 'load'],
};

/** Forbids a file or folder of src the imports from other paths of src. */
const zone = (target, from, message) => ({
  target: `./src/${target}`,
  from: from.map((path) => `./src/${path}`),
  message,
});
/** Forbids a file or folder of src all imports from a folder, with exceptions. */
const only = (target, from, except, message) => ({
  target: `./src/${target}`,
  from: `./src/${from}`,
  except: except.map((path) => `./${path}`),
  message,
});

const gateway = ['api', 'http', 'telemetry', 'serve.ts'];
/** The folders that commands import. */
const commands = ['util', 'model', 'engine', 'hub', 'convert', 'simulate', 'load', 'chat'];
/** The floors of the engine process, lowest first: each part imports only parts of lower floors. */
const floors = [
  ['protocol'],
  ['protocol.ts'],
  ['landing-plan.ts', 'constraint.ts', 'draws.ts', 'slot.ts', 'units.ts'],
  ['landing'],
  ['sequence.ts'],
  ['sampling', 'slots', 'grammar'],
  ['execution'],
  ['speculation', 'audit', 'calibration'],
  ['worker'],
];
/** All parts that the protocol and the gateway do not know; the gateway goes by the rule of landing-plan.ts as well. */
const engineParts = floors.flat().filter((part) => !['protocol.ts', 'protocol', 'landing-plan.ts'].includes(part));

const zones = [
  ...Object.entries(layers).map(([folder, imports]) =>
    zone(
      folder,
      [...folders.filter((each) => each !== folder && !imports.includes(each)), ...root],
      `${folder} imports ${imports.length === 0 ? 'no other folder of src' : `only ${imports.join(', ')}`}`,
    ),
  ),
  // The two processes share the protocol, and nothing else.
  ...gateway.map((target) =>
    only(
      target,
      'engine',
      ['client', 'protocol', 'protocol.ts'],
      'the gateway imports engine/client and engine/protocol.ts alone',
    ),
  ),
  zone(
    'engine/client',
    engineParts.map((part) => `engine/${part}`),
    "the engine's client runs in the gateway: the protocol is all that it shares with the engine process",
  ),
  ...engineParts.map((part) =>
    only(`engine/${part}`, 'engine/client', ['options.ts'], 'the engine process knows nothing of the gateway'),
  ),
  ...floors.slice(0, -1).flatMap((parts, floor) =>
    parts.map((part) =>
      zone(
        `engine/${part}`,
        floors
          .slice(floor)
          .flat()
          .filter((each) => each !== part)
          .map((each) => `engine/${each}`),
        'imports inside the engine process run downwards',
      ),
    ),
  ),
  ...['protocol.ts', 'protocol'].map((part) =>
    zone(`engine/${part}`, [...engineParts.map((each) => `engine/${each}`), 'engine/client'], 'the protocol is data'),
  ),
  // The root.
  zone(
    'serve.ts',
    ['hub', 'convert', 'simulate', 'load', 'chat', 'remote', 'runtime', 'router', 'cost', 'cli.ts', 'cli'],
    'serve wires gateway and engine',
  ),
  zone(
    'cli',
    [...folders.filter((each) => !commands.includes(each)), 'main.ts', 'cli.ts'],
    `cli imports only serve.ts, config.ts and ${commands.join(', ')}`,
  ),
  zone('config.ts', [...folders.filter((each) => !['util', 'options'].includes(each)), ...root], 'options'),
  { target: './src', from: ['./bench', './test'], message: 'the server imports no bench and no test' },
  { target: './bench', from: './test', message: 'benches import no tests' },
];

export default tseslint.config(
  { ignores: ['dist/', 'dist-*/', 'node_modules/', '.tap/', 'training/', 'openapi/'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    plugins: { 'import-x': importX, sortie: { rules: { 'no-import-cycle': noImportCycle } } },
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      'import-x/no-restricted-paths': ['error', { zones }],
      'sortie/no-import-cycle': 'error',
    },
    settings: {
      'import-x/resolver-next': [(await import('eslint-import-resolver-typescript')).createTypeScriptImportResolver()],
    },
  },
  {
    // All lines count, those of comments as well.
    files: ['src/**/*.ts'],
    rules: { 'max-lines-per-function': ['error', 50] },
  },
  {
    // An async subtest ends by itself in tap; a sync one needs t.end().
    files: ['test/**/*.ts'],
    rules: { '@typescript-eslint/require-await': 'off' },
  },
);

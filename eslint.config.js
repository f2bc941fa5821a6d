// Imports run one way (ARCHITECTURE.md): http -> api -> engine-client -> protocol. In the engine process:
// engine -> scheduler | model | protocol; scheduler -> cost; model -> runtime. Text is apart from tensors. util imports nothing of src.
// In src, only the command line imports hub, simulate, convert, loadgen and chat, and no file imports bench. remote, loadgen and chat
// know other servers by HTTP alone.
import importX from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';
import noImportCycle from './.ci/no-import-cycle.js';

/** The folders of src. */
const folders = [
  ...['util', 'options', 'runtime', 'model', 'text', 'cost', 'protocol', 'scheduler', 'engine', 'engine-client'],
  ...[
    'telemetry',
    'quality',
    'api',
    'upstream',
    'http',
    'web',
    'hub',
    'convert',
    'simulate',
    'remote',
    'loadgen',
    'chat',
  ],
];

/** The command line and the wiring, which no folder below imports. */
const root = ['main.ts', 'cli.ts', 'cli', 'serve.ts'];

/** The folders that each folder imports. */
const layers = {
  util: [],
  options: ['util'],
  runtime: ['util'],
  model: ['util', 'runtime'],
  text: ['util'],
  cost: ['util'],
  protocol: ['cost', 'model'],
  scheduler: ['util', 'cost', 'protocol', 'model'],
  engine: ['util', 'runtime', 'model', 'text', 'cost', 'protocol', 'scheduler'],
  'engine-client': ['util', 'cost', 'protocol'],
  telemetry: ['util', 'protocol', 'engine-client'],
  quality: ['util'],
  api: ['util', 'model', 'text', 'protocol', 'engine-client', 'telemetry', 'quality'],
  upstream: ['util', 'options', 'text', 'protocol', 'telemetry', 'api'],
  http: ['util', 'text', 'protocol', 'engine-client', 'telemetry', 'quality', 'api', 'upstream'],
  hub: ['util'],
  convert: ['util', 'runtime', 'model', 'text'],
  remote: [],
  loadgen: ['util', 'remote'],
  chat: ['remote'],
  simulate: ['util', 'cost', 'protocol', 'scheduler', 'loadgen'],
};

/** Forbids a file or folder of src the imports from other paths of src. */
const zone = (target, from, message) => ({
  target: `./src/${target}`,
  from: from.map((path) => `./src/${path}`),
  message,
});
/** The folders that commands import. */
const commands = ['util', 'model', 'engine', 'protocol', 'hub', 'convert', 'simulate', 'loadgen', 'chat'];
/** The floors of the engine process, lowest first: each part imports only parts of lower floors. */
const floors = [
  ['constraint.ts', 'draws.ts'],
  ['landing'],
  ['answer.ts'],
  ['sampling', 'grammar'],
  ['execution'],
  ['speculation', 'audit', 'calibration'],
  ['worker'],
];
const zones = [
  ...Object.entries(layers).map(([folder, imports]) =>
    zone(
      folder,
      [...folders.filter((each) => each !== folder && !imports.includes(each)), ...root],
      `${folder} imports ${imports.length === 0 ? 'no other folder of src' : `only ${imports.join(', ')}`}`,
    ),
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
  // The root.
  zone(
    'serve.ts',
    [
      'engine',
      'hub',
      'convert',
      'simulate',
      'loadgen',
      'chat',
      'remote',
      'runtime',
      'scheduler',
      'cost',
      'cli.ts',
      'cli',
    ],
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
    rules: {
      'max-lines-per-function': ['error', 50],
      'max-lines': ['error', 320],
      'max-len': ['error', { code: 120, ignoreUrls: true, ignoreStrings: true, ignoreTemplateLiterals: true }],
      // No packing to please these limits.
      'no-restricted-syntax': [
        'error',
        {
          selector: 'SpreadElement > ObjectExpression',
          message: 'a literal is spread for nothing: write its fields in the outer literal',
        },
        {
          selector: 'VariableDeclarator[id.type="ArrayPattern"][init.type="ArrayExpression"]',
          message: 'a tuple that is taken apart at once: declare each name by itself',
        },
      ],
    },
  },
  {
    // An async subtest ends by itself in tap; a sync one needs t.end().
    files: ['test/**/*.ts'],
    rules: { '@typescript-eslint/require-await': 'off' },
  },
);

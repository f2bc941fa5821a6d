// Imports run one way (ARCHITECTURE.md). Two processes, gateway and engine, share `protocol` alone, and the reading of a
// model's manifest. util imports nothing of src. Only the command line imports convert and the client of bench.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import importX from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';
import noImportCycle from './.ci/no-import-cycle.js';

/** Rooms, and within a room its parts. Each imports only the listed ones, itself, and util. */
const imports = {
  util: [],
  protocol: ['engine/model', 'engine/scheduler/cost'],

  'engine/runtime': [],
  'engine/model': ['engine/runtime'],
  'engine/scheduler': ['protocol', 'engine/model'],
  engine: ['protocol', 'gateway/text'],

  'gateway/text': [],
  'gateway/engine-client': ['protocol', 'engine/scheduler/cost'],
  'gateway/telemetry': ['protocol', 'cli/options', 'gateway/engine-client'],
  'gateway/api': [
    ...['protocol', 'cli/options', 'engine/model', 'gateway/text', 'gateway/engine-client', 'gateway/telemetry'],
  ],
  'gateway/upstream': ['protocol', 'cli/options', 'engine/model', 'gateway/text', 'gateway/telemetry', 'gateway/api'],
  'gateway/http': ['protocol', 'cli/options', 'gateway'],
  gateway: ['protocol', 'cli/options', 'engine/model', 'engine/scheduler/cost'],

  'convert/hub': [],
  convert: ['cli/options', 'engine/model', 'engine/runtime', 'gateway/text'],

  'cli/options': [],
};
/** The floors of the engine process above the scheduler, lowest first: each imports only parts of lower floors. */
const floors = [
  ['constraint.ts', 'draws.ts'],
  ['landing'],
  ['answer.ts'],
  ['sampling', 'grammar'],
  ['execution'],
  ['speculation', 'calibration'],
  ['worker'],
];
/** The rooms' own parts: what a zone may forbid. */
const parts = [
  ...['util', 'protocol', 'web', 'main.ts'],
  ...['cli', 'convert', 'engine', 'gateway'].flatMap((room) =>
    readdirSync(join(import.meta.dirname, 'src', room)).map((name) => `${room}/${name}`),
  ),
];
const holds = (folder, path) => path === folder || path.startsWith(`${folder}/`);
/** Forbids a file or folder of src the imports from other paths of src. */
const zone = (target, from, message) => ({
  target: `./src/${target}`,
  from: from.map((path) => `./src/${path}`),
  message,
});
const zones = [
  ...Object.entries(imports).map(([folder, allowed]) =>
    zone(
      folder,
      // A part that holds an allowed one, as engine/scheduler holds its costs, is judged by the room's own zones.
      parts.filter((part) => ![folder, 'util', ...allowed].some((each) => holds(each, part) || holds(part, each))),
      `${folder} imports ${['util', ...allowed].join(', ')}`,
    ),
  ),
  ...floors.slice(0, -1).flatMap((floor, index) =>
    floor.map((part) =>
      zone(
        `engine/${part}`,
        floors
          .slice(index)
          .flat()
          .filter((each) => each !== part)
          .map((each) => `engine/${each}`),
        'imports inside the engine process run downwards',
      ),
    ),
  ),
  { target: './src', from: ['./test'], message: 'the server imports no test' },
  {
    target: './src/!(cli)/**',
    from: ['./bench'],
    message: 'the command line alone imports the client of bench',
  },
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

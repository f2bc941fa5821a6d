// Imports run one way: http -> api -> engine -> router | model; router -> cost; model -> runtime (ARCHITECTURE.md).
//
// All folders may import config, errors and clock. All except the router and the cost model may import telemetry.
// In src, only the command line imports simulate, and no file imports bench.
import importX from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

const layers = [
  { target: 'runtime', from: ['model', 'convert', 'engine', 'router', 'cost', 'api', 'http', 'web'] },
  { target: 'model', from: ['convert', 'engine', 'router', 'cost', 'api', 'http', 'web'] },
  { target: 'cost', from: ['runtime', 'model', 'convert', 'engine', 'router', 'api', 'http', 'web', 'telemetry'] },
  { target: 'router', from: ['runtime', 'model', 'convert', 'engine', 'api', 'http', 'web', 'telemetry'] },
  { target: 'convert', from: ['engine', 'router', 'cost', 'api', 'http', 'web'] },
  { target: 'engine', from: ['convert', 'api', 'http', 'web'] },
  { target: 'telemetry', from: ['runtime', 'convert', 'router', 'cost', 'api', 'http', 'web'] },
  { target: 'api', from: ['runtime', 'convert', 'http', 'web'] },
  { target: 'http', from: ['runtime', 'convert'] },
];
const ways = 'imports run one way: http -> api -> engine -> router | model; router -> cost; model -> runtime';

/** Forbids imports of a folder of src from other folders. */
const zone = (target, from, message) => ({
  target: `./src/${target}`,
  from: from.map((dir) => `./src/${dir}`),
  message,
});
const zones = [
  ...layers.map(({ target, from }) => zone(target, from, ways)),
  ...layers.map(({ target }) => zone(target, ['simulate'], 'only the command line imports the simulator')),
  zone(
    'simulate',
    ['runtime', 'model', 'convert', 'engine', 'api', 'http', 'web', 'telemetry'],
    'the simulator imports only the router and the cost model',
  ),
  { target: './src', from: './bench', message: 'the server must not import a bench' },
];

export default tseslint.config(
  { ignores: ['dist/', 'dist-*/', 'node_modules/', '.tap/', 'training/', 'openapi/'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    plugins: { 'import-x': importX },
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      'import-x/no-cycle': 'error',
      'import-x/no-restricted-paths': ['error', { zones }],
    },
    settings: {
      'import-x/resolver-next': [(await import('eslint-import-resolver-typescript')).createTypeScriptImportResolver()],
    },
  },
  {
    // An async subtest ends by itself in tap; a sync one needs t.end().
    files: ['test/**/*.ts'],
    rules: { '@typescript-eslint/require-await': 'off' },
  },
);

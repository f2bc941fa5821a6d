// Imports run one way: http -> api -> engine -> router | model -> runtime (ARCHITECTURE.md).
// config, errors and clock may be used by all of them, telemetry by all but the router.
import importX from 'eslint-plugin-import-x';
import tseslint from 'typescript-eslint';

const layers = [
  { target: './src/runtime', from: ['model', 'convert', 'engine', 'router', 'api', 'http', 'web'] },
  { target: './src/model', from: ['convert', 'engine', 'router', 'api', 'http', 'web'] },
  { target: './src/router', from: ['runtime', 'model', 'convert', 'engine', 'api', 'http', 'web', 'telemetry'] },
  { target: './src/convert', from: ['engine', 'router', 'api', 'http', 'web'] },
  { target: './src/engine', from: ['convert', 'api', 'http', 'web'] },
  { target: './src/telemetry', from: ['runtime', 'convert', 'router', 'api', 'http', 'web'] },
  { target: './src/api', from: ['runtime', 'convert', 'http', 'web'] },
  { target: './src/http', from: ['runtime', 'convert'] },
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
      'import-x/no-restricted-paths': [
        'error',
        {
          zones: layers.map(({ target, from }) => ({
            target,
            from: from.map((dir) => `./src/${dir}`),
            message: 'imports run one way: http -> api -> engine -> router | model -> runtime',
          })),
        },
      ],
    },
    settings: {
      'import-x/resolver-next': [(await import('eslint-import-resolver-typescript')).createTypeScriptImportResolver()],
    },
  },
  {
    // tap ends an async subtest by itself; a sync one needs t.end().
    files: ['test/**/*.ts'],
    rules: { '@typescript-eslint/require-await': 'off' },
  },
);

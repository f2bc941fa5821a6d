/**
 * Lets the tests of test/conformance import the present majors of their clients, which this folder installs. They need
 * Node.js 22.15: node --import ./test/conformance/present/register.js dist/test/conformance/NAME.test.js
 */
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

const { dependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));
const isClient = (specifier) =>
  Object.keys(dependencies).some((name) => specifier === name || specifier.startsWith(`${name}/`));

registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier, isClient(specifier) ? { ...context, parentURL: import.meta.url } : context),
});

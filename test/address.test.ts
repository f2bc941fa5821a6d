/** The address that the server listens on, and the addresses that it shows. */
import t from 'tap';
import { chooseHost, urlOf } from '../src/gateway/serve/address.js';
import { welcome } from '../src/gateway/serve/startup-log.js';

void t.test('the default address depends on keys, and --host wins', async (t) => {
  t.equal(chooseHost(null, 0).address, '127.0.0.1');
  t.equal(chooseHost(null, 1).address, '0.0.0.0');
  t.same(chooseHost('10.0.0.3', 1), { address: '10.0.0.3', reason: 'by --host' });
});

void t.test('the URL of a wildcard or loopback address is localhost, and IPv6 has brackets', async (t) => {
  for (const address of ['0.0.0.0', '::', '127.0.0.1', '::1']) t.equal(urlOf(address, 80), 'http://localhost:80');
  t.equal(urlOf('10.0.0.3', 80), 'http://10.0.0.3:80');
  t.equal(urlOf('fd00::3', 80), 'http://[fd00::3]:80');
});

void t.test('the welcome has a key only where the server needs one, and the port of the documents', async (t) => {
  const facts = { url: 'http://localhost:1', docsUrl: 'http://localhost:2', model: 'm' };
  const open = welcome({ ...facts, needsKey: false });
  t.match(open, 'http://localhost:2/docs');
  t.notMatch(open, 'Authorization');
  t.match(welcome({ ...facts, needsKey: true }), "-H 'Authorization: Bearer YOUR_KEY'");
});

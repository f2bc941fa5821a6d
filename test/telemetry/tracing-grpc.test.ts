/** Traces over gRPC, as a collector on port 4317 receives them. */
import { Server, ServerCredentials, type UntypedHandleCall } from '@grpc/grpc-js';
import { promisify } from 'node:util';
import t from 'tap';
import { tracingTo } from '../fakes/collector.js';
import { build, says } from '../fakes/server.js';

const same = (bytes: Buffer): Buffer => bytes;
const EXPORT = {
  path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
  ...{ requestStream: false, responseStream: false, requestDeserialize: same, requestSerialize: same },
  ...{ responseDeserialize: same, responseSerialize: same },
};
const VARIABLES = {
  OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
  OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20collector',
};

void t.test('a collector gets the spans of a request, with its headers', async (t) => {
  const collector = new Server();
  const calls: { readonly request: Buffer; readonly metadata: { get(name: string): unknown[] } }[] = [];
  const receive: UntypedHandleCall = (call: (typeof calls)[number], reply: (error: null, bytes: Buffer) => void) => {
    calls.push(call);
    reply(null, Buffer.alloc(0));
  };
  collector.addService({ Export: EXPORT }, { Export: receive });
  const bind = promisify(collector.bindAsync.bind(collector));
  const port = await bind('127.0.0.1:0', ServerCredentials.createInsecure());
  t.teardown(() => {
    collector.forceShutdown();
  });
  const tracing = await tracingTo(`http://127.0.0.1:${port}`, VARIABLES);
  const server = await build(t, says('one two'), { tracing });
  const { id } = (await (await server.post('/v1/completions', { prompt: 'Hi' })).json()) as { id: string };
  t.equal(await tracing.shutdown(), true);
  const sent = Buffer.concat(calls.map(({ request }) => request));
  for (const text of ['POST /v1/completions', 'decode', 'prefill', 'queue', id, 'service.version', '1.2.3'])
    t.ok(sent.includes(text), text);
  t.ok(calls.length > 0);
  for (const { metadata } of calls) t.same(metadata.get('authorization'), ['Bearer collector']);
});

/** A small OpenTelemetry collector: it accepts OTLP over gRPC and decodes the spans. */
import { Server, ServerCredentials, type ServiceDefinition, type UntypedHandleCall } from '@grpc/grpc-js';
import protobuf from 'protobufjs';

/** The fields of opentelemetry/proto/collector/trace/v1 that the tests read. */
const PROTO = `
syntax = "proto3";
message Value { oneof value { string text = 1; bool flag = 2; int64 integer = 3; double number = 4; } }
message Attribute { string key = 1; Value value = 2; }
message Span { bytes trace_id = 1; string name = 5; repeated Attribute attributes = 9; }
message ScopeSpans { repeated Span spans = 2; }
message Resource { repeated Attribute attributes = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Request { repeated ResourceSpans resource_spans = 1; }
`;

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly { readonly name: string; readonly attributes: readonly Attribute[] }[];
    }[];
  }[];
}

export interface ReceivedSpan {
  readonly name: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

export interface GrpcCollector {
  readonly url: string;
  /** Values of the header `authorization`, one a call. */
  readonly authorizations: readonly string[];
  readonly spans: readonly ReceivedSpan[];
  readonly resource: Readonly<Record<string, unknown>>;
}

const plain = (attributes: readonly Attribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

/** @param t gets the teardown */
export async function collectGrpc(t: { teardown(end: () => unknown): void }): Promise<GrpcCollector> {
  const type = protobuf.parse(PROTO).root.lookupType('Request');
  const service: ServiceDefinition = {
    Export: {
      path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
      requestStream: false,
      responseStream: false,
      requestDeserialize: (bytes: Buffer) => type.toObject(type.decode(bytes), { longs: Number }),
      requestSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: (bytes: Buffer) => bytes,
    },
  };
  const spans: ReceivedSpan[] = [];
  const authorizations: string[] = [];
  const resource: Record<string, unknown> = {};
  const receive: UntypedHandleCall = (
    call: { request: Export; metadata: { get(name: string): (string | Buffer)[] } },
    reply: (error: null, bytes: Buffer) => void,
  ) => {
    authorizations.push(...call.metadata.get('authorization').map(String));
    for (const each of call.request.resourceSpans) {
      Object.assign(resource, plain(each.resource.attributes));
      for (const span of each.scopeSpans.flatMap((scope) => scope.spans)) {
        spans.push({ name: span.name, attributes: plain(span.attributes) });
      }
    }
    reply(null, Buffer.alloc(0));
  };
  const server = new Server();
  server.addService(service, { Export: receive });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  t.teardown(() => {
    server.forceShutdown();
  });
  return { url: `http://127.0.0.1:${port}`, authorizations, spans, resource };
}

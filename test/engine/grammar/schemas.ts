/** JSON schemas exactly as client libraries generate them. */

const zod = (schema: object) => ({ $schema: 'https://json-schema.org/draft/2020-12/schema', ...schema });

const Cat = {
  properties: {
    kind: { const: 'cat', title: 'Kind', type: 'string' },
    lives: { maximum: 9, minimum: 1, title: 'Lives', type: 'integer' },
  },
  required: ['kind', 'lives'],
  title: 'Cat',
  type: 'object',
};
const Dog = {
  properties: {
    kind: { const: 'dog', default: 'dog', title: 'Kind', type: 'string' },
    barks: { default: false, title: 'Barks', type: 'boolean' },
  },
  title: 'Dog',
  type: 'object',
};
const Bird = {
  properties: { kind: { default: 'bird', enum: ['bird', 'parrot'], title: 'Kind', type: 'string' } },
  title: 'Bird',
  type: 'object',
};
const discriminator = {
  mapping: { cat: '#/$defs/Cat', dog: '#/$defs/Dog', bird: '#/$defs/Bird', parrot: '#/$defs/Bird' },
  propertyName: 'kind',
};
const oneOf = [{ $ref: '#/$defs/Cat' }, { $ref: '#/$defs/Dog' }, { $ref: '#/$defs/Bird' }];

/** Zod 4, by `z.toJSONSchema`. */
export const ZOD = {
  'z.record(z.string(), z.int().min(1).max(9))': zod({
    type: 'object',
    propertyNames: { type: 'string' },
    additionalProperties: { type: 'integer', minimum: 1, maximum: 9 },
  }),
  'z.object({ url: z.url(), jwt: z.jwt(), id: z.cuid() })': zod({
    type: 'object',
    properties: {
      url: { type: 'string', format: 'uri' },
      jwt: { type: 'string', format: 'jwt' },
      id: { type: 'string', format: 'cuid', pattern: '^[cC][0-9a-z]{6,}$' },
    },
    required: ['url', 'jwt', 'id'],
    additionalProperties: false,
  }),
  "z.discriminatedUnion('kind', [...])": zod({
    oneOf: [
      {
        type: 'object',
        properties: { kind: { type: 'string', const: 'a' }, x: { type: 'boolean' } },
        required: ['kind', 'x'],
        additionalProperties: false,
      },
      {
        type: 'object',
        properties: { kind: { type: 'string', const: 'b' }, y: { type: 'boolean' } },
        required: ['kind', 'y'],
        additionalProperties: false,
      },
    ],
  }),
};

/** Pydantic 2, by `model_json_schema` and `TypeAdapter.json_schema`. */
export const PYDANTIC = {
  'Path, bytes, SecretStr, AnyUrl': {
    properties: {
      p: { format: 'path', title: 'P', type: 'string' },
      b: { format: 'binary', title: 'B', type: 'string' },
      s: { format: 'password', title: 'S', type: 'string', writeOnly: true },
      u: { format: 'uri', minLength: 1, title: 'U', type: 'string' },
    },
    required: ['p', 'b', 's', 'u'],
    title: 'Misc',
    type: 'object',
  },
  'Annotated[Cat | Dog | Bird, Field(discriminator="kind")]': { $defs: { Bird, Cat, Dog }, discriminator, oneOf },
  'a list of those': {
    $defs: { Bird, Cat, Dog },
    properties: { pets: { items: { discriminator, oneOf }, title: 'Pets', type: 'array' } },
    required: ['pets'],
    title: 'Owner',
    type: 'object',
  },
};

/** Schemas of tools and their calls, in OpenAI's form. */
import { type Static, Type } from '../../util/schema.js';
import { oneOf } from './shared.js';

export const FunctionName = Type.String({
  pattern: '^[a-zA-Z0-9_-]{1,64}$',
  'x-rule': '1 to 64 letters, digits, underscores and hyphens',
});

export const Tool = Type.Object({
  type: Type.Literal('function', { 'x-rule': '"function"' }),
  function: Type.Object({
    name: FunctionName,
    description: Type.Optional(Type.String()),
    parameters: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description: 'JSON schema of the arguments, which are an object. Absent: no arguments.',
      }),
    ),
    strict: Type.Optional(Type.Boolean({ description: 'Has no effect: every call follows its schema.' })),
  }),
});
export type Tool = Static<typeof Tool>;

export const ToolChoice = oneOf('"none", "auto", "required" or {type: "function", function: {name}}', [
  Type.Literal('none'),
  Type.Literal('auto'),
  Type.Literal('required'),
  Type.Object({ type: Type.Literal('function'), function: Type.Object({ name: Type.String() }) }),
]);

export const toolFields = {
  tools: Type.Optional(Type.Array(Tool, { maxItems: 128, 'x-rule': 'an array of at most 128 functions' })),
  tool_choice: Type.Optional(ToolChoice),
  parallel_tool_calls: Type.Optional(
    Type.Boolean({ default: true, description: 'Allows several calls in one answer.' }),
  ),
};

/** A call of an answer, which the next request returns. */
export const ToolCall = Type.Object({
  id: Type.String({ minLength: 1 }),
  type: Type.Literal('function', { 'x-rule': '"function"' }),
  function: Type.Object({ name: FunctionName, arguments: Type.String({ description: 'A JSON object as text.' }) }),
});
export type ToolCall = Static<typeof ToolCall>;

/** Anthropic's tools and tool choice in the form of a chat. Must not know: grammars. */
import { notSupported, required } from '../../errors.js';
import { toolSchema } from '../../params/value-limits.js';
import type { ChatBody, Tool } from '../chat-completions/chat-body.js';
import type { CountTokensBody, MessagesTool, MessagesToolChoice } from './messages-body.js';

function toolOf(tool: MessagesTool, place: string): Tool {
  const { type = 'custom', name, description, input_schema: schema, strict = false } = tool;
  if (type !== 'custom') {
    throw notSupported(
      `${place}.type`,
      type,
      'the server has no tools of its own, and takes those with an input_schema',
    );
  }
  if (schema === undefined) throw required(`${place}.input_schema`);
  const parameters = toolSchema(schema, strict);
  return { type: 'function', function: { name, ...(description !== undefined && { description }), parameters } };
}

/** @throws ApiError unsupported_parameter for a tool of Anthropic's server */
function toolsOf({ tools = [] }: Pick<CountTokensBody, 'tools'>): Tool[] {
  return tools.map((tool, index) => toolOf(tool, `tools[${index}]`));
}

function choiceOf(choice: MessagesToolChoice): NonNullable<ChatBody['tool_choice']> {
  switch (choice.type) {
    case 'any':
      return 'required';
    case 'tool':
      return { type: 'function', function: { name: choice.name } };
    case 'auto':
    case 'none':
      return choice.type;
  }
}

/** The fields of a chat for tools. A choice that needs no tool is allowed without any. */
export function toolFieldsOf({ tools = [], tool_choice: choice }: Pick<CountTokensBody, 'tools' | 'tool_choice'>) {
  const isNeeded = choice?.type === 'any' || choice?.type === 'tool';
  if (tools.length === 0 && !isNeeded) return {};
  const isSingle = choice !== undefined && choice.type !== 'none' && choice.disable_parallel_tool_use === true;
  return {
    tools: toolsOf({ tools }),
    ...(choice !== undefined && { tool_choice: choiceOf(choice) }),
    ...(isSingle && { parallel_tool_calls: false }),
  };
}

/** The client's names of the chat's parameters for these tools. */
export function toolNames({ tools = [] }: Pick<CountTokensBody, 'tools'>): [chat: string, client: string][] {
  return tools.flatMap((_, index): [string, string][] => [
    [`tools[${index}].function.parameters`, `tools[${index}].input_schema`],
    [`tools[${index}].function`, `tools[${index}]`],
  ]);
}

/** Tools and tool choice of a response in the form of a chat. Must not know: grammars. */
import { invalid, notSupported, required } from '../../errors.js';
import { toolSchema } from '../../params/value-limits.js';
import type { ChatBody, Tool } from '../chat-completions/chat-body.js';
import type { ResponsesBody, ResponseTool } from './responses-body.js';
import { quoted } from '../../../../util/quoted.js';

interface TranslatedTools {
  readonly fields: Pick<ChatBody, 'tools' | 'tool_choice' | 'parallel_tool_calls'>;
  readonly names: [chat: string, client: string][];
}

function functionOf(tool: ResponseTool, place: string): Tool {
  const { type, name, description, parameters, strict = false } = tool;
  if (type !== 'function') {
    throw notSupported(`${place}.type`, type, 'the server has no tools of its own, and takes functions');
  }
  if (name === undefined) throw required(`${place}.name`);
  return {
    type,
    function: {
      name,
      ...(description !== undefined && { description }),
      ...(parameters && { parameters: toolSchema(parameters, strict) }),
    },
  };
}

/** @throws ApiError unsupported_parameter for a tool that is not a function */
export function responseTools(body: ResponsesBody): TranslatedTools {
  const { tools = [], parallel_tool_calls: isParallel } = body;
  const listed = tools.map((tool, index) => ({ tool: functionOf(tool, `tools[${index}]`), place: `tools[${index}]` }));
  const { allowed, asked } = askedOf(body);
  const unknown = allowed?.find((name) => tools.every((tool) => tool.name !== name));
  if (unknown !== undefined) {
    throw invalid('tool_choice.tools', `must name functions of tools, got ${quoted(unknown)}`);
  }
  const offered = listed.filter(({ tool }) => allowed?.includes(tool.function.name) ?? true);
  // Clients send both fields without tools, too. Only a choice that needs a tool is an error then.
  if (offered.length === 0) {
    const isNeeded = asked !== undefined && asked !== 'auto' && asked !== 'none';
    return { fields: isNeeded ? { tool_choice: asked } : {}, names: [] };
  }
  return {
    fields: {
      tools: offered.map(({ tool }) => tool),
      ...(asked !== undefined && { tool_choice: asked }),
      ...(isParallel !== undefined && { parallel_tool_calls: isParallel }),
    },
    names: offered.flatMap(({ place }, index): [string, string][] => [
      [`tools[${index}].function`, place],
      [`tools[${index}]`, place],
    ]),
  };
}

/** The chat's choice, and the names of the functions that it may call; absent: all. */
function askedOf({ tool_choice: choice }: ResponsesBody): { allowed?: string[]; asked: ChatBody['tool_choice'] } {
  if (typeof choice !== 'object') return { asked: choice };
  if (choice.type === 'function') return { asked: { type: 'function', function: { name: choice.name } } };
  return { allowed: choice.tools.map(({ name }) => name), asked: choice.mode ?? 'auto' };
}

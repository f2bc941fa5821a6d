/**
 * `tools`, `tool_choice` and `parallel_tool_calls`: what the prompt tells of and what the answer must keep to.
 *
 * Knows: OpenAI's rules, and what can't be had together. Must not know: how calls are spelt, grammars.
 */
import { ApiError } from '../errors.js';
import type { ChatTool } from '../../text/tool-form.js';
import type { PlannedGrammar } from '../params/response-format.js';
import { schemaText } from '../params/schema-limits.js';
import type { ChatBody } from '../schemas/chat.js';
import type { Tool } from '../schemas/tools.js';
import { quoted } from '../../util/quoted.js';

/** Calls in one answer: a small model would go on until max_tokens. */
const MOST_CALLS = 16;
/** All schemas together, UTF-16 units: half a second of compiling. */
const MAX_LENGTH = 131_072;

export interface ToolPlan {
  /** What the prompt tells of; none where none may be called. */
  readonly tools: readonly ChatTool[];
  /** Null where none may be called. */
  readonly grammar: PlannedGrammar | null;
}

const wrong = (rule: string, param: string): ApiError => new ApiError('invalid_value', rule, param);

/** @throws ApiError invalid_value for two tools of one name, or parameters that are no object */
export function chatTools(tools: readonly Tool[]): ChatTool[] {
  const seen = new Set<string>();
  return tools.map(({ function: { name, description, parameters } }, index) => {
    const place = `tools[${index}].function`;
    if (seen.has(name))
      throw wrong(`${place}.name must be of one tool only, got ${quoted(name)} again.`, `${place}.name`);
    seen.add(name);
    const type = parameters?.type ?? 'object';
    if (type !== 'object') {
      throw wrong(`${place}.parameters must have the type "object", got ${quoted(type)}.`, `${place}.parameters`);
    }
    const none = { properties: {}, additionalProperties: false };
    return {
      type: 'function',
      function: {
        name,
        ...(description === undefined ? {} : { description }),
        parameters: { type, ...(parameters ?? none) },
      },
    };
  });
}

/** What can't be had together with a call, and why. */
function checkTogether(body: ChatBody, isForced: boolean): void {
  const refuse = (param: keyof ChatBody, why: string): void => {
    throw wrong(`${param} can't be combined with tools${isForced ? ' that must be called' : ''}: ${why}.`, param);
  };
  const { response_format: format, stop, stop_token_ids: stopIds = [] } = body;
  if (format !== undefined && format.type !== 'text') refuse('response_format', 'an answer keeps to one of them');
  if (stopIds.length > 0) refuse('stop_token_ids', 'a call must not be cut');
  if (!isForced) return;
  if (stop !== undefined && stop.length > 0) refuse('stop', 'it is looked for in text, and there will be none');
  if (body.logprobs === true) refuse('logprobs', 'they are of text, and there will be none');
}

const withoutTools = (param: string): ApiError => wrong(`${param} is only allowed with tools.`, param);

/** @throws ApiError invalid_value for everything about tools that can't be served */
export function planTools(body: ChatBody): ToolPlan {
  const tools = chatTools(body.tools ?? []);
  const { tool_choice: choice = 'auto', parallel_tool_calls: isParallel = true } = body;
  if (tools.length === 0) {
    // None is what there is without tools.
    if (body.tool_choice !== undefined && choice !== 'none') throw withoutTools('tool_choice');
    if (body.parallel_tool_calls !== undefined) throw withoutTools('parallel_tool_calls');
  }
  const named = typeof choice === 'object' ? choice.function.name : null;
  const index = tools.findIndex(({ function: { name } }) => name === named);
  if (named !== null && index < 0)
    throw wrong(`tool_choice must name one of tools, got ${quoted(named)}.`, 'tool_choice');
  if (tools.length === 0 || choice === 'none') return { tools: [], grammar: null };
  checkTogether(body, choice !== 'auto');
  const placeOf = (part: number): string => `tools[${part}].function.parameters`;
  const functions = tools.map(({ function: { name, parameters } }, part) => ({
    name,
    schema: schemaText(parameters, placeOf(part), placeOf(part)),
  }));
  const length = functions.reduce((sum, { schema }) => sum + schema.length, 0);
  if (length > MAX_LENGTH) {
    throw wrong(`tools must have at most ${MAX_LENGTH} characters of parameters in all, got ${length}.`, 'tools');
  }
  return {
    tools,
    grammar: {
      grammar: {
        kind: 'calls',
        functions: named === null ? functions : functions.slice(index, index + 1),
        most: named === null && isParallel ? MOST_CALLS : 1,
        isOptional: choice === 'auto',
      },
      placeOf: (part) => (named !== null ? placeOf(index) : part === null ? 'tools' : placeOf(part)),
    },
  };
}

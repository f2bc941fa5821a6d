/** All endpoints of clients, in the order of openapi.json. Those of operators are in http/operations.ts. */
import { chatCompletions } from './chat-completions/chat-completions.js';
import { completions } from './completions.js';
import { detokenize } from './detokenize.js';
import type { GeneratingEndpoint, PlainEndpoint } from './endpoint.js';
import { countTokens, messages } from './messages/messages.js';
import { getModel, listModels } from './models.js';
import { props } from './props.js';
import { inputTokens, responses } from './responses/responses.js';
import { tokenize } from './tokenize.js';

export const endpoints: readonly (GeneratingEndpoint<object> | PlainEndpoint)[] = [
  chatCompletions,
  completions,
  responses,
  inputTokens,
  messages,
  countTokens,
  listModels,
  getModel,
  props,
  tokenize,
  detokenize,
];

/** A function that any client can offer. Its schema keeps the arguments short. */
export const weather = {
  name: 'get_weather',
  description: 'Weather of a city.',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', minLength: 1, maxLength: 8 }, unit: { enum: ['C', 'F'] } },
    required: ['city', 'unit'],
    additionalProperties: false,
  },
};

/** Patterns of its arguments. */
export const weatherArguments = { city: /^.{1,8}$/su, unit: /^[CF]$/ };

/** A schema of two possible objects, and the pattern of both. */
export const colors = {
  type: 'object',
  properties: { color: { enum: ['red', 'blue'] } },
  required: ['color'],
  additionalProperties: false,
};
export const COLOR = { color: /^(red|blue)$/ };

/** How an upstream's late answers are kept from a client: not at all, by their own sentences, or by the local model. */
export const NET_MODES = ['off', 'land', 'answer'] as const;
export type NetMode = (typeof NET_MODES)[number];

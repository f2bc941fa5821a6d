/** The two names of an exit. */
declare const exitUnit: unique symbol;
/** Names an exit by its number of layers: in options, requests, events and metrics. */
export type ExitLayer = number & { readonly [exitUnit]?: 'layer' };
/** Names an exit by its index in the manifest's list: inside the engine and the cost model. */
export type ExitIndex = number & { readonly [exitUnit]?: 'index' };

/** The blocks of a model's exits, in its manifest as in its sessions. */
export function blocksOf<B>({ exits }: { readonly exits: readonly { readonly block: B | null }[] }): B[] {
  return exits.flatMap(({ block }) => block ?? []);
}

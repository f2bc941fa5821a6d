/** The blocks of a model's exits, in its manifest as in its sessions. */

interface WithBlock<B> {
  readonly block: B | null;
}

/** The blocks of all exits, then that behind the prompt exit beside the trunk. */
export function blocksOf<B>({
  exits,
  prompt,
}: {
  readonly exits: readonly WithBlock<B>[];
  readonly prompt?: WithBlock<B> | null;
}): B[] {
  return [...exits, ...(prompt ? [prompt] : [])].flatMap(({ block }) => block ?? []);
}

/** Fields that hold a string or an array, without a union: an error then names the item at fault. */
import { type Static, type TSchema, Type } from '../../util/schema.js';

/**
 * @param rule completes "must be ..." in the error for another type
 * @param options more keywords, such as a description
 */
export function stringOr<const Item extends TSchema>(rule: string, items: Item, options: object = {}) {
  return Type.Unsafe<string | Static<Item>[]>({ type: ['string', 'array'], items, 'x-rule': rule, ...options });
}

/** The text of a field whose items are parts with text. */
export function joined(content: string | readonly { readonly text?: string }[] | undefined): string {
  return typeof content === 'string' ? content : (content ?? []).map(({ text = '' }) => text).join('');
}

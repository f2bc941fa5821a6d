/** Budgets of bench:goodput: one for each class, the same for all requests of the class. */

/** @property budgetMs total time from the scheduled arrival to the last token */
export interface BudgetClass {
  readonly budgetClass: string;
  readonly budgetMs: number;
}

/**
 * Reads budgets such as `500,1000,2000` in ms, or `1x,2x,4x` as multiples of a time.
 * @param medianMs the median time of full depth alone over the questions
 * @throws Error that names the option, its rule and the value
 */
export function budgetsOf(text: string, medianMs: number): BudgetClass[] {
  return text.split(',').map((budgetClass) => {
    const [, number = '', unit] = /^(\d+(?:\.\d+)?)(x?)$/.exec(budgetClass.trim()) ?? [];
    const value = Number(number);
    if (!(value > 0))
      throw new Error(`--budgets must be positive ms or multiples such as 2x, separated by commas, got "${text}"`);
    return { budgetClass: budgetClass.trim(), budgetMs: Math.round(unit === 'x' ? value * medianMs : value) };
  });
}

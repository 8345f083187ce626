/** Condition codes 0 to 15 by the names that Jcc, SETcc and CMOVcc give them. */
export const conditionNames: readonly string[] = "o no b ae e ne be a s ns p np l ge le g".split(" ");

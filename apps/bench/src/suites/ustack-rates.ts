import type { Suite } from "../suite.ts";
import { rates } from "../ustack/rates.ts";

/** A part of the suite `ustack`, alone: round trips, connections and datagrams a second. */
const suite: Suite = rates;

export default suite;

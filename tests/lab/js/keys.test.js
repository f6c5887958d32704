import assert from "node:assert/strict";
import { test } from "node:test";

import { isOurs } from "../../../flatlab/lab/js/keys.js";

const control = (fits, inside) => ({ matches: () => fits, closest: () => (inside ? {} : null) });

test("arrow keys are a slider's inside of a panel, all other keys and controls are the notebook's", () => {
  assert.equal(isOurs("ArrowRight", control(true, true)), true);
  assert.equal(isOurs("s", control(true, true)), false);
  assert.equal(isOurs("ArrowRight", control(false, true)), false);
  assert.equal(isOurs("Home", control(true, false)), false);
});

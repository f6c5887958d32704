import assert from "node:assert/strict";
import { test } from "node:test";

import { contrast, luminance, readable } from "../../../flatlab/lab/js/theme.js";

test("every colour stands out from a light and a dark page, and strong ones stay as they are", () => {
  assert.ok(Math.abs(contrast(luminance([255, 255, 255]), luminance([0, 0, 0])) - 21) < 0.01);
  const palette = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"];
  for (const hex of [...palette, "#000000", "#ffffff"])
    for (const [dark, paper] of [[false, [255, 255, 255]], [true, [17, 17, 17]]])
      assert.ok(contrast(luminance(readable(hex, dark)), luminance(paper)) >= 3, `${hex} ${dark}`);
  assert.deepEqual(readable("#0173b2", false), [1, 115, 178]);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { contrast, luminance, opaque, readable } from "../../../flatlab/lab/js/theme.js";

test("every colour stands out from a light and a dark page, and strong ones stay as they are", () => {
  assert.ok(Math.abs(contrast(luminance([255, 255, 255]), luminance([0, 0, 0])) - 21) < 0.01);
  const palette = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"];
  for (const hex of [...palette, "#000000", "#ffffff"])
    for (const paper of [[255, 255, 255], [17, 17, 17], [33, 33, 33], [66, 66, 66], [240, 240, 230]])
      assert.ok(contrast(luminance(readable(hex, paper)), luminance(paper)) >= 3, `${hex} ${paper}`);
  assert.deepEqual(readable("#0173b2", [255, 255, 255]), [1, 115, 178]);
});

test("what is transparent is no paper", () => {
  assert.deepEqual(opaque("rgb(33, 33, 33)"), [33, 33, 33]);
  assert.deepEqual(opaque("rgba(33, 33, 33, 1)"), [33, 33, 33]);
  for (const clear of ["rgba(0, 0, 0, 0)", "rgba(33, 33, 33, 0.5)"]) assert.equal(opaque(clear), undefined);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { Still, chartValues, columnsOf, landscapeValues } from "../../../flatlab/lab/js/still.js";
import { makeStore } from "../../../flatlab/lab/js/store.js";

test("columns come out of JSON as they went in: NaN, infinities, and those that are another's", () => {
  const columns = columnsOf(JSON.parse('[[0, 0.1, 2], [1.5, null, "-Infinity"], 0, 1, []]'));
  assert.deepEqual(columns.map((column) => [...column]), [[0, 0.1, 2], [1.5, NaN, -Infinity], [0, 0.1, 2], [1.5, NaN, -Infinity], []]);
});

test("a chart's model gives the store the same numbers", () => {
  const part = { about: { plots: [] }, columns: [[1, 2], [3.25, null], 0], look: { log: "y", hidden: ["a"] } };
  const model = new Still(chartValues(part));
  const store = makeStore(model);
  assert.deepEqual(store.columns.map((column) => [...column.values()]), [[1, 2], [3.25, NaN], [1, 2]]);
  assert.deepEqual([model.get("log"), model.get("hidden"), model.get("smooth"), model.get("height")], ["y", ["a"], 0, 300]);
});

test("a landscape's grids are the float32 that were packed", () => {
  const values = Float32Array.from([1.5, -2, NaN, 4e-3]);
  const grids = Buffer.from(values.buffer).toString("base64");
  const { grids: view, cursor, mode } = landscapeValues({ grids, panels: [], caption: "", look: { mode: "3d" } });
  const back = new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  assert.deepEqual([[...back], cursor, mode], [[...values], [], "3d"]);
});

test("views hear of what is set, once, until they hear no more", () => {
  const [model, told] = [new Still({ log: "" }), []];
  const act = () => told.push(model.get("log"));
  model.on("change:log change:mode", act);
  model.set("log", "x");
  model.set("log", "x");
  model.set("mode", "2d");
  model.off("change:log", act);
  model.set("log", "");
  assert.deepEqual(told, ["x", "x"]);
});

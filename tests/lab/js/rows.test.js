import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, cellOf, columnsOf, fits, found, linesOf, longest, shownIn, sorted, textOf, titleOf, together } from "../../../flatlab/lab/js/rows.js";

const rows = [
  { id: "a1", name: "FedAvg", group: 0, seed: 0, rounds: 4, round: 4, accuracy: 0.5, date: 30, note: "", "algorithm.lr": 0.1, algorithm: "FedAvg", "λ₁": null },
  { id: "a2", name: "FedAvg", group: 0, seed: 1, rounds: 4, round: 4, accuracy: 0.7, date: 20, note: "", "algorithm.lr": 0.1, algorithm: "FedAvg", "λ₁": null },
  { id: "b1", name: "babu wide", group: 2, seed: 0, rounds: 4, round: 2, accuracy: null, date: 10, note: "for the talk", "algorithm.lr": 0.01, algorithm: "FedBABU", "λ₁": 12.5 },
];
const ids = (found) => found.map(({ id }) => id);

test("columns are the results that somebody has and the settings that differ among the runs shown", () => {
  assert.deepEqual(columnsOf(rows), ["accuracy", "λ₁", "rounds", "seed", "algorithm.lr", "algorithm", "date", "note"]);
  assert.deepEqual(columnsOf(rows.slice(0, 2)), ["accuracy", "rounds", "seed", "date", "note"]);
  assert.deepEqual(columnsOf(rows.slice(1, 2)), ["accuracy", "rounds", "date", "note"]);
});

test("a column bears the end of its setting's name unless another ends alike", () => {
  assert.equal(titleOf("algorithm.batch_size", ["algorithm.batch_size", "seed"]), "batch size");
  assert.equal(titleOf("data.seed", ["data.seed", "seed"]), "data.seed");
  assert.equal(titleOf("accuracy", ["accuracy"]), "accuracy %");
});

test("conditions on numbers and texts", () => {
  for (const [value, condition, wanted] of [
    [0.5, ">0.4", true], [0.5, "<=0.5", true], [0.5, ">= 0.6", false], [0.5, "=0.5", true], [0.3, "=.30", true],
    [0.5, "0.1..0.5", true], [0.5, "1e-3..0.4", false], ["FedAvg", "=fedavg", true], ["FedAvg", "!=FedAvg", false],
    ["FedAvg", "avg", true], [null, ">0", false], [undefined, "<1", false], [null, "", true], [3, "!=", true], [3, ">", false],
    [-2, "-3..-1", true], ["", "=", true],
  ])
    assert.equal(fits(value, condition), wanted, `${value} ${condition}`);
});

test("a search finds words anywhere and conditions by a column's short name; shares are in percent", () => {
  assert.deepEqual(ids(found(rows, "TALK")), ["b1"]);
  assert.deepEqual(ids(found(rows, "lr<0.05")), ["b1"]);
  assert.deepEqual(ids(found(rows, "fedavg seed=1")), ["a2"]);
  assert.deepEqual(ids(found(rows, "accuracy>=50 accuracy<60")), ["a1"]);
  assert.deepEqual(ids(found(rows, "a2")), ["a2"]);
  assert.deepEqual(ids(found(rows, "", { name: "fedavg", accuracy: ">60" })), ["a2"]);
  assert.deepEqual(ids(found(rows, "colour>3")), []);
  assert.equal(found(rows, "  ").length, 3);
});

test("seeds are one line with the mean and one standard deviation", () => {
  const lines = linesOf(rows, true);
  assert.deepEqual(lines.map(({ members }) => ids(members)), [["a1", "a2"], ["b1"]]);
  const { value, text } = cellOf(lines[0], "accuracy");
  assert.ok(Math.abs(value - 0.6) < 1e-12);
  assert.equal(text, "60.0 ± 14"); // percent: the standard deviation of 50 and 70 is 14.1
  const half = { key: "", members: [{ "λ₁": 2 }, { "λ₁": null }] };
  assert.equal(cellOf(half, "λ₁").text, "2 (1 of 2)");
  assert.equal(cellOf(lines[0], "seed").text, "0, 1");
  assert.equal(cellOf(lines[0], "algorithm.lr").text, "0.1");
  assert.equal(linesOf(rows, false).length, 3);
});

test("lines are sorted as numbers or texts, and what is missing comes last either way", () => {
  const lines = linesOf(rows, false);
  const order = (key, direction) => sorted(lines, key, direction).map(({ key }) => key);
  assert.deepEqual(order("accuracy", -1), ["a2", "a1", "b1"]);
  assert.deepEqual(order("accuracy", 1), ["a1", "a2", "b1"]);
  assert.deepEqual(order("λ₁", 1)[0], "b1");
  assert.deepEqual(order("name", 1), ["b1", "a1", "a2"]);
  assert.deepEqual(order("date", 1), ["b1", "a2", "a1"]);
});

test("curves of seeds are averaged where all have a point", () => {
  const one = together([{ x: [1, 2, 3], y: [5, 6, 7] }]);
  assert.deepEqual([one.x, one.low], [[1, 2, 3], undefined]);
  const both = together([{ x: [1, 2, 4], y: [5, 6, 7] }, { x: [2, 4], y: [8, 9] }]);
  assert.deepEqual([both.x, [...both.y]], [[2, 4], [7, 8]]);
  assert.ok(Math.abs(both.high[0] - 7 - Math.SQRT2) < 1e-12);
  assert.deepEqual(together([{ x: [1], y: [1] }, { x: [2], y: [1] }]).x, []);
});

test("what a person reads", () => {
  assert.deepEqual([textOf("accuracy", 0.93214), textOf("λ₁", 12.3456), textOf("note", ""), textOf("seed", null), textOf("x", true)],
    ["93.2", "12.35", "", "–", "true"]);
  assert.deepEqual([0, 61, 7300, 200000].map((past) => ago(1e6 - past, 1e6)), ["just now", "1 min ago", "2 h ago", "2 d ago"]);
});

test("what is seen of a line, and the longest text of a column", () => {
  const [a1, a2, b1] = linesOf(rows, false);
  assert.equal(shownIn(b1, "rounds", 60).text, "2 of 4");
  assert.equal(shownIn(a1, "date", 90).text, "1 min ago");
  assert.equal(shownIn({ key: "", members: [...a1.members, ...b1.members] }, "rounds", 0).text, "…");
  assert.equal(longest([a1, a2, b1], "rounds", 60), "2 of 4");
  assert.equal(longest([a1, b1], "name", 60), "babu wide");
  assert.equal(longest([], "name", 60), "");
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { ofRound } from "../../../flatlab/lab/js/hits.js";
import { heightAt, lastAt } from "../../../flatlab/lab/js/numbers.js";
import { roundOf, standing } from "../../../flatlab/lab/marks.js";
import { played } from "../../../flatlab/lab/timeline.js";

const about = { min: 2, max: 5, speed: 10, loop: false };

test("a time line plays so many rounds a second, and ends at the last or begins again", () => {
  assert.deepEqual(played({ round: 2, rest: 0 }, 0.05, about), { round: 2, rest: 0.5, over: false });
  assert.deepEqual(played({ round: 2, rest: 0.5 }, 0.25, about), { round: 5, rest: 0, over: false });
  assert.equal(played({ round: 4, rest: 0 }, 9, about).over, true);
  assert.equal(played({ round: 4, rest: 0 }, 9, about).round, 5);
  assert.deepEqual([1, 2, 3, 4, 5].map((steps) => played({ round: 4, rest: 0 }, steps / 10, { ...about, loop: true }).round), [5, 2, 3, 4, 5]);
});

test("the mark of a round is at its point, or at the last one before it", () => {
  const rounds = [2, 4, 6];
  assert.deepEqual([1, 2, 3, 6, 9].map((at) => lastAt(rounds, at)), [-1, 0, 0, 2, 2]);
  assert.equal(lastAt([], 1), -1);
  assert.deepEqual([1, 2, 3, 5, 9].map((x) => heightAt(rounds, [10, 20, 0], x)), [10, 10, 15, 10, 0]);
});

test("of many rounds' marks those of one are seen: that named, the latest before it, or the last of all", () => {
  const rounds = [1, 1, 2, 2, 4];
  assert.deepEqual([1, 2, 3, 9, null].map((at) => ofRound(rounds, at)), [[0, 1], [2, 3], [2, 3], [4], [4]]);
  assert.deepEqual(ofRound([2], 1), []);
});

test("on its way each run stands at the round, or at the nearest that was kept", () => {
  const mark = (series, name) => ({ series, name });
  const marks = [mark("models", "round 9"), ...[0, 2, 4].map((k) => mark("trajectory", `a, b, round ${k}`)), ...[3, 10].map((k) => mark("trajectory", `c, round ${k}`))];
  const names = (at) => standing(marks, at).map(({ name }) => name);
  assert.deepEqual(names(3), ["a, b, round 2", "c, round 3"]);
  assert.deepEqual([names(0), names(99)], [["a, b, round 0", "c, round 3"], ["a, b, round 4", "c, round 10"]]);
  assert.deepEqual(standing(marks, null), []);
  assert.equal(roundOf(marks[0]), null);
});

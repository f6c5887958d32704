import assert from "node:assert/strict";
import { test } from "node:test";

import { columnsOf } from "../../../flatlab/lab/js/legend.js";

const plot = (label, ...names) => ({ about: { y: { label }, series: names.map((name) => ({ name })) } });

test("curves that stand in several plots have a column for each", () => {
  const plots = [plot("accuracy (%)", "FedAvg", "FedBABU"), plot("loss", "FedAvg", "FedBABU")];
  assert.deepEqual(columnsOf(plots).map(({ label }) => label), ["accuracy (%)", "loss"]);
  assert.equal(columnsOf([plot("loss", "FedAvg")]).length, 1);
});

test("curves with a plot of their own share a column, named by what is the same in all", () => {
  const multiples = [plot("lr 0.1: accuracy (%)", "lr 0.1"), plot("lr 0.2: accuracy (%)", "lr 0.2")];
  assert.deepEqual(columnsOf(multiples), [{ label: "accuracy (%)", plots: multiples }]);
  const against = [plot("holdout accuracy (%)", "holdout accuracy"), plot("λ₁", "λ₁")];
  assert.deepEqual(columnsOf(against), [{ label: "", plots: against }]);
});

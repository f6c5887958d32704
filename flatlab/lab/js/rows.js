// @ts-check
// What a table of runs computes: which columns differ, what a search finds, order, groups over seeds. No page is needed.

import { digits, meanAndBand } from "./numbers.js";

/** @typedef {Record<string, any>} Row a run: id, group, and by the names of columns what it has there */
/** @typedef {{x: ArrayLike<number>, y: ArrayLike<number>}} Curve */
/** @typedef {{key: string, members: Row[]}} Line of the table: a run, or those that differ in seeds alone */

const FIRST = ["accuracy", "personalized", "gain", "λ₁", "rounds", "seed"];
const LAST = ["date", "note"];
const APART = new Set(["id", "group", "name", "label", "round", ...FIRST, ...LAST]);
const SHARES = new Set(["accuracy", "personalized", "gain"]);

/**
 * The columns that tell these runs apart: results that somebody has, settings that differ, when they were begun, notes.
 * @param {Row[]} rows
 */
export function columnsOf(rows) {
  const has = (/** @type {string} */ key) => rows.some((row) => known(row[key]));
  const differs = (/** @type {string} */ key) => new Set(rows.map((row) => JSON.stringify(row[key] ?? null))).size > 1;
  const settings = [...new Set(rows.flatMap(Object.keys))].filter((key) => !APART.has(key));
  const first = FIRST.filter((key) => (key === "seed" ? differs(key) : key === "accuracy" || key === "rounds" || has(key)));
  return [...first, ...settings.filter(differs), ...LAST];
}

/**
 * What a column is called: the last part of a setting's name, or all of it where another ends alike.
 * @param {string} key
 * @param {string[]} keys
 */
export function titleOf(key, keys) {
  if (SHARES.has(key)) return `${key} %`;
  const [end, ...others] = keys.filter((other) => lastPart(other) === lastPart(key)).map(lastPart);
  return (others.length ? key : (end ?? key)).replaceAll("_", " ");
}

/** @param {string} key */
function lastPart(key) {
  return key.slice(key.lastIndexOf(".") + 1);
}

/** @param {any} value */
function known(value) {
  return value !== undefined && value !== null && value !== "" && !Number.isNaN(value);
}

/**
 * A value as the table shows it, and as it is sought and compared: shares in percent.
 * @param {string} key
 * @param {any} value
 */
export function plain(key, value) {
  return SHARES.has(key) && typeof value === "number" ? 100 * value : value;
}

/**
 * As text.
 * @param {string} key
 * @param {any} value
 */
export function textOf(key, value) {
  const shown = plain(key, value);
  if (!known(shown)) return key === "note" ? "" : "–";
  if (SHARES.has(key)) return shown.toFixed(1);
  return typeof shown === "number" ? digits(shown) : typeof shown === "string" ? shown : JSON.stringify(shown);
}

/**
 * Whether a value fits what a person wrote: ">0.9", "<=3", "=FedAvg", "!=1", "0.1..0.5", or a part of the text.
 * @param {any} value
 * @param {string} condition
 */
export function fits(value, condition) {
  const wanted = condition.trim().toLowerCase();
  if (!wanted) return true;
  const text = String(value ?? "").toLowerCase();
  const range = wanted.match(/^(-?[\d.e+-]+?)\.\.(-?[\d.e+-]+)$/);
  if (range) return known(value) && Number(value) >= Number(range[1]) && Number(value) <= Number(range[2]);
  const [, sign, rest] = /** @type {string[]} */ (wanted.match(/^(>=|<=|!=|>|<|=|)\s*(.*)$/s));
  const number = rest === "" ? NaN : Number(rest);
  const same = Number.isNaN(number) || typeof value !== "number" ? text === rest : near(value, number);
  if (sign === "=") return same;
  if (sign === "!=") return !same;
  if (!sign) return text.includes(rest);
  if (!known(value) || Number.isNaN(number)) return false;
  return { ">": value > number, "<": value < number, ">=": value >= number, "<=": value <= number }[sign] ?? false;
}

/** @param {number} a @param {number} b as near as four digits are read */
function near(a, b) {
  return Math.abs(a - b) <= 1e-6 * Math.max(1e-12, Math.abs(a), Math.abs(b));
}

/**
 * The runs that a search finds: every word is in a name, an id, a note or a cell, or is a condition such as rho>0.1.
 * @param {Row[]} rows
 * @param {string} text
 * @param {Record<string, string>} [filters] conditions by column
 */
export function found(rows, text, filters = {}) {
  const words = text.trim().split(/\s+/).filter(Boolean);
  const keys = [...new Set(rows.flatMap(Object.keys))].filter((key) => key !== "group" && key !== "date");
  const named = (/** @type {string} */ word) => {
    const parts = word.match(/^([^<>=!]+)([<>=!].+)$/s);
    const name = parts?.[1].toLowerCase();
    const key = keys.find((one) => one.toLowerCase() === name) ?? keys.find((one) => lastPart(one).toLowerCase() === name);
    return parts && key ? { key, condition: parts[2] } : null;
  };
  const tests = words.map((word) => {
    const condition = named(word);
    if (condition) return (/** @type {Row} */ row) => fits(plain(condition.key, row[condition.key]), condition.condition);
    return (/** @type {Row} */ row) => keys.some((key) => fits(key === "id" ? row.id : textOf(key, row[key]), word));
  });
  for (const [key, condition] of Object.entries(filters))
    tests.push((row) => fits(key === "date" ? row.date : plain(key, row[key]), condition));
  return rows.filter((row) => tests.every((test) => test(row)));
}

/**
 * The lines of the table, in the order of its rows: each run, or together those that differ in seeds alone.
 * @param {Row[]} rows
 * @param {boolean} grouped
 * @returns {Line[]}
 */
export function linesOf(rows, grouped) {
  if (!grouped) return rows.map((row) => ({ key: row.id, members: [row] }));
  /** @type {Map<any, Row[]>} */ const groups = new Map();
  for (const row of rows) groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
  return [...groups.values()].map((members) => ({ key: members.map(({ id }) => id).join(" "), members }));
}

/**
 * What a line has in a column: its run's value; of several what they share, a mean with its deviation, or how many.
 * @param {Line} line
 * @param {string} key
 * @returns {{value: any, text: string}}
 */
export function cellOf({ members }, key) {
  const values = members.map((row) => row[key]);
  if (new Set(values.map((value) => JSON.stringify(value ?? null))).size === 1) return { value: values[0], text: textOf(key, values[0]) };
  if (key === "seed" || key === "data.seed") {
    const sorted = [...values].sort((a, b) => a - b);
    return { value: sorted[0], text: members.length > 3 ? `${members.length} seeds` : sorted.join(", ") };
  }
  if (key === "date") return { value: Math.max(...values), text: "" };
  const numbers = values.filter((value) => typeof value === "number" && !Number.isNaN(value));
  if (!numbers.length) return { value: null, text: key === "note" ? "…" : "–" };
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const deviation = Math.sqrt(numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (numbers.length - 1));
  const spread = numbers.length > 1 ? ` ± ${digits(+plain(key, deviation).toPrecision(2))}` : "";
  const lacking = numbers.length < members.length ? ` (${numbers.length} of ${members.length})` : "";
  return { value: mean, text: textOf(key, mean) + spread + lacking };
}

/**
 * What is seen of it: as `cellOf`, with dates as people say them, and rounds with how many there are to be.
 * @param {Line} line
 * @param {string} key
 * @param {number} now in seconds
 * @returns {{value: any, text: string}}
 */
export function shownIn(line, key, now) {
  const cell = cellOf(line, key);
  if (key === "date") return { ...cell, text: ago(cell.value, now) };
  if (key !== "rounds") return cell;
  const rounds = new Set(line.members.map((one) => (one.round < one.rounds ? `${one.round} of ${one.rounds}` : `${one.rounds}`)));
  return { ...cell, text: rounds.size > 1 ? "…" : [...rounds][0] };
}

/**
 * The longest text of a column, which says how wide it must be.
 * @param {Line[]} lines
 * @param {string} key
 * @param {number} now in seconds
 */
export function longest(lines, key, now) {
  return lines.reduce((most, line) => {
    const text = key === "name" ? line.members[0].name : shownIn(line, key, now).text;
    return text.length > most.length ? text : most;
  }, "");
}

/**
 * Lines in the order of a column; those without a value come last either way.
 * @param {Line[]} lines
 * @param {string} key
 * @param {number} direction 1: upwards, -1: downwards
 */
export function sorted(lines, key, direction) {
  const valued = lines.map((line) => ({ line, value: cellOf(line, key).value }));
  const there = valued.filter(({ value }) => known(value));
  there.sort(({ value: a }, { value: b }) => {
    if (typeof a === "number" && typeof b === "number") return direction * (a - b);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return direction * String(a).localeCompare(String(b), undefined, { numeric: true });
  });
  return [...there, ...valued.filter(({ value }) => !known(value))].map(({ line }) => line);
}

/**
 * The mean of curves and its band, where all of them have a point; a single one is itself.
 * @param {Curve[]} curves
 * @returns {{x: number[], y: ArrayLike<number>, low?: ArrayLike<number>, high?: ArrayLike<number>}}
 */
export function together(curves) {
  if (curves.length === 1) return { x: Array.from(curves[0].x), y: curves[0].y };
  const places = curves.map(({ x }) => new Map(Array.from(x, (at, k) => [at, k])));
  const x = Array.from(curves[0].x).filter((at) => places.every((place) => place.has(at)));
  const members = curves.map(({ y }, k) => x.map((at) => y[/** @type {number} */ (places[k].get(at))]));
  if (!x.length) return { x, y: [] };
  const { mean, low, high } = meanAndBand(members);
  return { x, y: mean, low, high };
}

/**
 * How long ago, as a person says it.
 * @param {number} seconds since 1970
 * @param {number} now in seconds
 */
export function ago(seconds, now) {
  const past = Math.max(0, now - seconds);
  for (const [unit, size] of /** @type {[string, number][]} */ ([["d", 86400], ["h", 3600], ["min", 60]]))
    if (past >= size) return `${Math.floor(past / size)} ${unit} ago`;
  return "just now";
}

// Models marked on a landscape: their shapes, ways and names. `pen` is a canvas's 2-D context; follows plane.js.

const ORDER = ["trajectory", "clients", "markers", "models"]; // the last is drawn above
const NAMED = 8; // of one series; more are named when the pointer is on them

function drawShape(pen, series, x, y, fill) {
  const size = series === "models" ? 9 : 5;
  pen.fillStyle = fill;
  pen.strokeStyle = "#fff";
  pen.lineWidth = 2.6;
  pen.beginPath();
  if (series === "models") {
    for (let k = 0; k < 10; k++) {
      const [angle, reach] = [(k * Math.PI) / 5 - Math.PI / 2, k % 2 ? 0.45 * size : size];
      pen.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
    }
  } else if (series === "clients") {
    [[0, -6], [5.5, 4], [-5.5, 4]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy));
  } else if (series === "markers") {
    [[0, -6], [6, 0], [0, 6], [-6, 0]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy));
  } else {
    pen.arc(x, y, size, 0, 7);
  }
  pen.closePath();
  pen.stroke();
  pen.fill();
  pen.strokeStyle = "rgba(0,0,0,0.75)"; // seen on any colour: dark line within a light one
  pen.lineWidth = 0.9;
  pen.stroke();
}

/** The way a mark lies on: several runs may share a plane. */
const wayOf = (mark) => (mark.series === "trajectory" ? mark.name.split(", ").slice(0, -1).join(", ") : null);

function drawWays(pen, spots) {
  for (const way of new Set(spots.map(({ mark }) => wayOf(mark)).filter((name) => name !== null))) {
    pen.beginPath();
    spots.filter(({ mark }) => wayOf(mark) === way).forEach(({ at }) => pen.lineTo(at[0], at[1]));
    pen.strokeStyle = "rgba(255,255,255,0.9)";
    pen.lineWidth = 2;
    pen.stroke();
    pen.strokeStyle = "rgba(0,0,0,0.6)";
    pen.lineWidth = 0.7;
    pen.stroke();
  }
}

/** Which marks are named: models and markers; of the others all if they are few, of a way its ends. */
export function namedMarks(marks) {
  const several = (series) => marks.filter((mark) => mark.series === series);
  const ends = [...new Set(several("trajectory").map(wayOf))].flatMap((way) => {
    const on = several("trajectory").filter((mark) => wayOf(mark) === way);
    return on.length > 1 ? [on[0], on[on.length - 1]] : on;
  });
  const few = ["markers", "clients"].flatMap((series) => several(series).slice(0, several(series).length > NAMED ? 0 : NAMED));
  return [...several("models"), ...few, ...ends];
}

/**
 * Places for names beside their marks, where they cover neither a mark nor each other and do not leave the box; a name
 * without such a place has none.
 */
export function placeNames(names, spots, box) {
  const taken = spots.map(({ at: [x, y] }) => [x - 6, y - 6, x + 6, y + 6]);
  const placed = [];
  for (const { text, at: [x, y], width } of names) {
    const sides = [[x + 9, y], [x - 9 - width, y], [x - width / 2, y - 14], [x - width / 2, y + 14]];
    for (const [left, middle] of sides) {
      const [from, top, to, bottom] = [left - 2, middle - 7, left + width + 2, middle + 7];
      const inside = from >= box[0] && top >= box[1] && to <= box[2] && bottom <= box[3];
      if (!inside || taken.some(([a, b, c, d]) => from < c && to > a && top < d && bottom > b)) continue;
      taken.push([from, top, to, bottom]);
      placed.push({ text, left, middle });
      break;
    }
  }
  return placed;
}

/** The round of a mark on a way, and of a client; null of others, and where an earlier version did not say. */
export const roundOf = (mark) => mark.round ?? (mark.series === "trajectory" ? Number(/(\d+)$/.exec(mark.name)?.[1] ?? NaN) : null);

/** Of some rounds the nearest, of two the earlier; the last if none is looked at. */
export const nearestRound = (rounds, at) =>
  at === null ? Math.max(...rounds) : [...rounds].sort((a, b) => Math.abs(a - at) - Math.abs(b - at) || a - b)[0];

/** Where runs are at a round: of each way the mark of it, or of the nearest round that was kept. */
export function standing(marks, at) {
  if (at === null) return [];
  const ways = marks.filter((mark) => mark.series === "trajectory");
  return [...new Set(ways.map(wayOf))].map((way) => {
    const own = ways.filter((mark) => wayOf(mark) === way);
    const round = nearestRound(own.map(roundOf), at);
    return own.find((mark) => roundOf(mark) === round);
  });
}

/** The round whose clients are seen: the nearest of those measured, the last by default; null if no mark says one. */
export function clientsRound(marks, at) {
  const rounds = marks.filter(({ series }) => series === "clients").map(roundOf).filter((round) => round !== null);
  return rounds.length ? nearestRound(rounds, at) : null;
}

/** The marks that are seen at a round: of clients those of one round. */
export function seenMarks(marks, at) {
  const round = clientsRound(marks, at);
  return marks.filter((mark) => mark.series !== "clients" || round === null || roundOf(mark) === round);
}

/** What is said of the round that is looked at: whose models are marked, and which round is shown where it is not stored. */
export function toldOfRound(marks, at, told) {
  const now = standing(marks, at);
  const clients = clientsRound(marks, at);
  const [round, ...others] = new Set([...now.map(roundOf), clients].filter((one) => one !== null));
  if (at === null || others.length) {
    const each = now.map((mark) => `${mark.name}: ${told(mark)}`);
    return [...each, ...(clients === null ? [] : [`clients of round ${clients}`])].join("; ");
  }
  if (round === undefined) return "";
  const each = now.map((mark) => [wayOf(mark), told(mark)].filter(Boolean).join(" "));
  return [round === at ? `round ${at}` : `round ${at} is not stored, shown is ${round}`, each.join("; ")].filter(Boolean).join(": ");
}

function drawNames(pen, spots, box) {
  const named = new Set(namedMarks(spots.map(({ mark }) => mark)));
  const names = spots
    .filter(({ mark }) => named.has(mark))
    .sort((one, other) => ORDER.indexOf(other.mark.series) - ORDER.indexOf(one.mark.series))
    .map(({ mark, at }) => ({ text: mark.name, at, width: pen.measureText(mark.name).width }));
  [pen.textAlign, pen.textBaseline, pen.lineJoin] = ["left", "middle", "round"];
  for (const { text, left, middle } of placeNames(names, spots, box)) {
    pen.strokeStyle = "rgba(255,255,255,0.85)"; // black on white is read on every colour of the scale
    pen.lineWidth = 3;
    pen.strokeText(text, left, middle);
    pen.fillStyle = "#000";
    pen.fillText(text, left, middle);
  }
}

function drawMarks(pen, spots, scale, value, marked, box, at) {
  drawWays(pen, spots);
  const now = new Set(standing(spots.map(({ mark }) => mark), at));
  for (const { mark, at: spot } of [...spots].sort((a, b) => ORDER.indexOf(a.mark.series) - ORDER.indexOf(b.mark.series))) {
    const moved = now.size > 0 && mark.series === "models"; // the star is elsewhere
    pen.globalAlpha = moved || (now.size > 0 && !now.has(mark) && roundOf(mark) > at) ? 0.4 : 1;
    drawShape(pen, now.has(mark) ? "models" : moved ? "trajectory" : mark.series, spot[0], spot[1], rgb(scale.place(mark[value])));
    pen.globalAlpha = 1;
    if (!marked || mark.name !== marked.name || mark.series !== marked.series) continue;
    pen.strokeStyle = "#D55E00";
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(spot[0], spot[1], 10, 0, 7);
    pen.stroke();
  }
  drawNames(pen, spots, box);
}

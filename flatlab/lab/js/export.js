// @ts-check
// What is on the screen as a file: SVG made of the same curves, ticks and colours; PNG painted from that.

import { decimated, digits, errorBars } from "./numbers.js";
import { DASHES } from "./page.js";

const LINE = 16; // pixels of a line of the legend
const HEAD = 22; // above each plot

/**
 * Both files; of marks of clients there is no SVG.
 * @param {any} chart
 */
export async function picture(chart) {
  if (chart.cells) return { svg: null, png: await painted(chart) };
  const { text, width, height } = drawn(chart);
  const svg = new Blob([text], { type: "image/svg+xml" });
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const sheet = document.createElement("canvas");
  const scale = 2;
  [sheet.width, sheet.height] = [width * scale, height * scale];
  /** @type {any} */ (sheet.getContext("2d")).drawImage(image, 0, 0, sheet.width, sheet.height);
  const png = await new Promise((done) => sheet.toBlob(done, "image/png"));
  return { svg, png: /** @type {Blob} */ (png) };
}

/** Marks of clients as they are on their canvases, with what is written above them. @param {any} chart */
async function painted(chart) {
  const box = chart.row.getBoundingClientRect();
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [2 * Math.ceil(box.width), 2 * Math.ceil(box.height + HEAD)];
  const ink = /** @type {CanvasRenderingContext2D} */ (sheet.getContext("2d"));
  ink.scale(2, 2);
  ink.fillStyle = chart.ink.paper;
  ink.fillRect(0, 0, sheet.width, sheet.height);
  const write = (/** @type {string} */ text, /** @type {number} */ x, /** @type {number} */ y) => {
    ink.fillStyle = chart.ink.text;
    ink.fillText(text, x, y);
  };
  ink.font = "600 12px system-ui, sans-serif";
  write(chart.title.textContent ?? "", 6, 14);
  ink.font = "11px system-ui, sans-serif";
  for (const { place, canvas, swatches, about } of chart.plots) {
    const [own, at] = [place.getBoundingClientRect(), canvas.getBoundingClientRect()];
    const [left, top] = [own.left - box.left, own.top - box.top + HEAD];
    write(about.what || about.y.label, left + 4, top + 11);
    for (const [swatch, color] of swatches) {
      const spot = swatch.getBoundingClientRect(); // names may fill several lines
      const y = spot.top - box.top + HEAD;
      ink.fillStyle = chart.ink.lit(color);
      ink.fillRect(spot.left - box.left, y, spot.width, spot.height);
      write(swatch.parentElement.textContent, spot.right - box.left + 3, y + spot.height);
    }
    ink.drawImage(canvas, at.left - box.left, at.top - box.top + HEAD, at.width, at.height);
  }
  return /** @type {Promise<Blob>} */ (new Promise((done) => sheet.toBlob((blob) => done(/** @type {Blob} */ (blob)), "image/png")));
}

/** @param {any} chart */
function drawn(chart) {
  const box = chart.row.getBoundingClientRect();
  const lines = chart.legend.lines.filter((/** @type {any} */ { name }) => !chart.hidden.has(name));
  const [width, plots] = [Math.ceil(box.width), Math.ceil(box.height)];
  const height = plots + 24 + LINE * (lines.length + 1) + 8;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<style>text{font:11px system-ui,sans-serif;fill:${chart.ink.text}}</style>`,
    `<rect width="100%" height="100%" fill="${chart.ink.paper}"/>`,
    `<text x="6" y="14" font-weight="600">${escaped(chart.title.textContent)}</text>`,
  ];
  for (const plot of chart.plots) parts.push(...panel(chart, plot, box));
  // Numbers stand below what they are of, as on the screen.
  const inColumns = (/** @type {Iterable<Element>} */ cells, /** @type {number} */ y) => {
    for (const cell of cells) {
      const right = cell.getBoundingClientRect().right - parseFloat(getComputedStyle(cell).paddingRight) - box.left;
      parts.push(`<text x="${right}" y="${y}" text-anchor="end">${escaped(cell.textContent)}</text>`);
    }
  };
  if (lines.length) {
    const [when, ...heads] = chart.legend.when.parentElement.children;
    parts.push(`<text x="8" y="${plots + 32}">${escaped(when.textContent)}</text>`);
    inColumns(heads, plots + 32);
  }
  lines.forEach((/** @type {any} */ { name, series, cells }, /** @type {number} */ k) => {
    const y = plots + 32 + LINE * (k + 1);
    parts.push(`<path d="M8 ${y - 4}h20" ${stroke(chart.ink.lit(series.color), 2.5, series.dash)}/>`);
    parts.push(`<text x="36" y="${y}">${escaped(name)}</text>`);
    inColumns(cells.map((/** @type {any} */ [, cell]) => cell), y);
  });
  parts.push("</svg>");
  return { text: parts.join("\n"), width, height };
}

/** @param {any} chart @param {any} plot @param {DOMRect} box */
function panel(chart, plot, box) {
  const { u, about, curves } = plot;
  const over = u.over.getBoundingClientRect();
  const [left, top] = [over.left - box.left, over.top - box.top + HEAD];
  const [wide, high] = [over.width, over.height];
  const id = `inside${chart.plots.indexOf(plot)}`;
  const x = (/** @type {number} */ value) => left + u.valToPos(value, "x");
  const y = (/** @type {number} */ value) => top + u.valToPos(value, "y");
  const parts = [
    `<clipPath id="${id}"><rect x="${left}" y="${top}" width="${wide}" height="${high}"/></clipPath>`,
    `<text x="${left - 40}" y="${top - 10}">${escaped(about.y.label)}</text>`,
    `<text x="${left + wide / 2}" y="${top + high + 34}" text-anchor="middle">${escaped(about.x.label)}</text>`,
  ];
  for (const tick of plot.splits("x"))
    parts.push(`<path d="M${x(tick)} ${top}v${high}" ${stroke(chart.ink.grid, 1)}/>`,
      `<text x="${x(tick)}" y="${top + high + 16}" text-anchor="middle">${digits(tick)}</text>`);
  for (const tick of plot.splits("y"))
    parts.push(`<path d="M${left} ${y(tick)}h${wide}" ${stroke(chart.ink.grid, 1)}/>`,
      `<text x="${left - 6}" y="${y(tick) + 4}" text-anchor="end">${digits(tick)}</text>`);
  parts.push(`<g clip-path="url(#${id})">`);
  about.series.forEach((/** @type {any} */ series, /** @type {number} */ k) => {
    if (chart.hidden.has(series.name)) return;
    const curve = curves[k];
    const path = (/** @type {Float64Array} */ column) => points(curve.x, column, x, y, plot);
    if (series.role === "values") {
      const fill = chart.ink.lit(series.color);
      for (const [at, low, high] of errorBars(curve, plot.log("y"))) parts.push(`<path d="M${x(at)} ${y(low)}V${y(high)}" ${stroke(fill, 1.5)}/>`);
      for (const [px, py] of path(curve.y)) parts.push(`<circle cx="${px}" cy="${py}" r="3.5" fill="${fill}"/>`);
    } else if (curve.low) {
      const edges = [...path(curve.high), ...path(curve.low).reverse()];
      parts.push(`<path d="${joined(edges)}Z" fill="${chart.ink.lit(series.color, 0.16)}"/>`);
    }
    if (curve.raw) parts.push(`<path d="${joined(path(curve.raw))}" ${stroke(chart.ink.lit(series.color, 0.3), 1)}/>`);
    if (series.dash !== "none") parts.push(`<path d="${joined(path(curve.y))}" ${stroke(chart.ink.lit(series.color), 1.75, series.dash)}/>`);
  });
  for (const mark of about.marks)
    parts.push(`<path d="M${x(mark.x)} ${top}v${high}" ${stroke(chart.ink.lit(mark.color), 1, ":")}/>`,
      `<text x="${x(mark.x) + 3}" y="${top + high - 4}">${escaped(mark.text)}</text>`);
  parts.push("</g>");
  return parts;
}

/** @param {Float64Array} xs @param {Float64Array} ys @param {any} x @param {any} y @param {any} plot */
function points(xs, ys, x, y, plot) {
  /** @type {[number, number][]} */
  const found = [];
  for (let k = 0; k < xs.length; k += 1) {
    const drawable = !Number.isNaN(ys[k]) && (ys[k] > 0 || !plot.log("y")) && (xs[k] > 0 || !plot.log("x"));
    if (drawable) found.push([x(xs[k]), y(ys[k])]);
  }
  return decimated(found);
}

/** @param {[number, number][]} path */
function joined(path) {
  return path.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** @param {string} color @param {number} width @param {string} [dash] */
function stroke(color, width, dash = "-") {
  const dashes = DASHES[dash]?.join(" ");
  return `fill="none" stroke="${color}" stroke-width="${width}"${dashes ? ` stroke-dasharray="${dashes}"` : ""}`;
}

/** @param {string | null} text */
function escaped(text) {
  return (text ?? "").replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

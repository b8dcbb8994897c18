"use strict";
// Small drawing: scales, ticks, and the three plots of the page, as SVG.

const COLOURS = [
  "#33658a", "#c8702a", "#4f8a5b", "#8a4f7d", "#b0413e", "#6b6f80", "#a68a1f", "#2f8f8f",
  "#7a5c3e", "#5561b5", "#c05a8a", "#6f8f2f",
];

function element(name, attributes = {}, children = []) {
  const drawing = ["svg", "g", "path", "line", "rect", "circle", "text", "title"].includes(name);
  const node = drawing
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of [].concat(children)) {
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

function figure(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100000)) return value.toExponential(2);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(4);
}

function spreadText(spread) {
  if (!spread) return "–";
  const [mean, sd] = spread;
  return sd === null ? figure(mean) : `${figure(mean)} ± ${figure(sd)}`;
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  return low === high ? [low - Math.abs(low || 1) * 0.05, high + Math.abs(high || 1) * 0.05] : [low, high];
}

// Round numbers within a range, about as many as asked for.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function tickText(value, step) {
  const size = Math.abs(value);
  if (size >= 10000) return `${+(value / (size >= 1e6 ? 1e6 : 1e3)).toPrecision(4)}${size >= 1e6 ? " M" : " k"}`;
  return value.toFixed(Math.max(0, Math.min(8, -Math.floor(Math.log10(step || 1)))));
}

function scale(low, high, from, to, log = false) {
  const of = log ? Math.log : (v) => v;
  return (v) => from + ((of(v) - of(low)) / (of(high) - of(low))) * (to - from);
}

// Curves: [{points: [[x, y], ...], colour, title, group}].
function plotCurves(curves, { xTitle, yTitle, log, room }) {
  const width = Math.max(300, Math.min(1080, room)), height = width < 600 ? 280 : 380, left = 64, bottom = 44, right = 16, top = 24;
  const points = curves.flatMap((c) => c.points);
  const ys = points.map((p) => p[1]).filter((y) => !log || y > 0);
  const [x0, x1] = extent([0, ...points.map((p) => p[0])]);
  const [y0, y1] = extent(ys);
  const x = scale(x0, x1, left, width - right);
  const y = scale(y0, y1, height - bottom, top, log);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": yTitle });
  const yTicks = log && y1 / y0 > 3
    ? [...Array(40).keys()].flatMap((i) => [1, 2, 5].map((m) => m * 10 ** (i - 20))).filter((v) => v >= y0 && v <= y1)
    : ticks(y0, y1, 5);
  const yStep = yTicks.length > 1 ? yTicks[1] - yTicks[0] : y1 - y0;
  for (const tick of yTicks) {
    svg.append(element("line", { class: "axis", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    svg.append(element("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick, log ? tick : yStep)));
  }
  const xTicks = ticks(x0, x1, width < 600 ? 4 : 8);
  for (const tick of xTicks) {
    svg.append(element("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, tickText(tick, xTicks[1] - xTicks[0])));
  }
  svg.append(element("text", { x: width - right, y: height - 6, "text-anchor": "end" }, xTitle));
  svg.append(element("text", { x: left - 56, y: 12 }, yTitle));
  for (const curve of curves) {
    const seen = curve.points.filter((p) => !log || p[1] > 0);
    if (!seen.length) continue;
    const path = seen.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join("");
    const parts = [element("path", { class: "curve", d: path, stroke: curve.colour }, [element("title", {}, curve.title)])];
    if (seen.length < 3) {
      for (const p of seen) parts.push(element("circle", { cx: x(p[0]), cy: y(p[1]), r: 2.5, fill: curve.colour }));
    }
    svg.append(element("g", { "data-group": curve.group }, parts));
  }
  return svg;
}

const DARK = window.matchMedia("(prefers-color-scheme: dark)").matches;

// From faint (worst) to strong (best), against the paper of the page.
function shade(share) {
  const mix = (a, b) => Math.round(a + (b - a) * share);
  return DARK
    ? `rgb(${mix(52, 130)},${mix(50, 195)},${mix(45, 215)})`
    : `rgb(${mix(243, 66)},${mix(239, 105)},${mix(230, 122)})`;
}

function inkOn(share) { return share > 0.55 === DARK ? "#1d1d1b" : "#fff"; }

// A heat map over two axes: rows, columns, and cell(row, column) -> {value, text, best} or null.
function plotHeat(rows, columns, cell, { rowTitle, columnTitle, goodness }) {
  const text = (labels) => Math.max(...labels.map((l) => l.length)) * 7;
  const left = Math.max(text(rows), rowTitle.length * 7) + 24, top = 48;
  const w = Math.max(132, text(columns) + 16), h = 54;
  const width = left + w * columns.length + 6, height = top + h * rows.length + 6;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": "heat map" });
  svg.append(element("text", { x: left, y: 14 }, columnTitle), element("text", { x: 0, y: top - 10 }, rowTitle));
  columns.forEach((c, j) => svg.append(element("text", { class: "strong", x: left + j * w + 8, y: top - 10 }, c)));
  const marks = [];
  rows.forEach((r, i) => {
    svg.append(element("text", { class: "strong", x: 0, y: top + i * h + h / 2 + 4 }, r));
    columns.forEach((c, j) => {
      const found = cell(r, c);
      const box = { x: left + j * w, y: top + i * h, width: w - 2, height: h - 2 };
      const share = found ? goodness(found.value) : 0;
      svg.append(element("rect", { ...box, fill: found ? shade(share) : "none", class: found ? null : "axis" }));
      const ink = found ? inkOn(share) : "var(--soft)";
      svg.append(element("text", { x: box.x + 10, y: box.y + h / 2 + 4, style: `fill:${ink}` }, found ? found.text : "–"));
      if (found && found.best) marks.push(element("rect", { ...box, class: "best" }));
    });
  });
  svg.append(...marks);
  return svg;
}

// Parallel coordinates: axes [{title, position(line) -> 0..1, labels: [[position, text]]}].
function plotParallel(axes, lines) {
  const gap = Math.max(150, Math.min(260, 960 / (axes.length - 1))), height = 340, top = 44, left = 20;
  const width = left + gap * (axes.length - 1) + 150;
  const y = (share) => height - 24 - share * (height - 24 - top);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": "parallel coordinates" });
  for (const line of lines) {
    const path = axes.map((axis, i) => `${i ? "L" : "M"}${left + i * gap},${y(axis.position(line)).toFixed(1)}`).join("");
    svg.append(element("g", { "data-group": line.group }, [
      element("path", { class: "curve", d: path, stroke: line.colour, "stroke-width": line.best ? 3 : 1.5 }, [element("title", {}, line.title)]),
    ]));
  }
  axes.forEach((axis, i) => {
    const at = left + i * gap;
    svg.append(element("line", { x1: at, x2: at, y1: top, y2: height - 24, class: "axis" }));
    svg.append(element("text", { class: "strong", x: at - 4, y: 18 }, axis.title));
    for (const [share, label] of axis.labels) {
      svg.append(element("text", { x: at + 6, y: y(share) + 4, style: "paint-order:stroke;stroke:var(--paper);stroke-width:4px" }, label));
    }
  });
  return svg;
}

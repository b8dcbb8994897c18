"use strict";
// Small drawing: scales, ticks, and the three plots of the page, as SVG.

// Of the style sheet, by day and night; dashes tell apart in gray, and where colours come again.
const NUM_COLOURS = 7;
const DASHES = [null, "7 3", "2 3", "9 3 2 3", "14 4", "5 2 1 2 1 2"];
const colourOf = (k) => `var(--c${k % NUM_COLOURS})`;
const dashOf = (k) => DASHES[k % DASHES.length];

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

// A cost, of whatever size: 0.031, 512, 12.8 k, 1.23e15.
function amount(value, digits = 3) {
  const rounded = +value.toPrecision(digits), size = Math.abs(rounded);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return rounded.toExponential().replace("+", "");
  return size >= 10000 ? tickText(rounded, 1) : String(rounded);
}

function tickText(value, step) {
  const size = Math.abs(value);
  if (size >= 1e9) return (+value.toPrecision(4)).toExponential().replace("+", "");
  if (size >= 10000) return `${+(value / (size >= 1e6 ? 1e6 : 1e3)).toPrecision(4)}${size >= 1e6 ? " M" : " k"}`;
  return value.toFixed(Math.max(0, Math.min(8, -Math.floor(Math.log10(step || 1)))));
}

function scale(low, high, from, to, log = false) {
  const of = log ? Math.log : (v) => v;
  return (v) => from + ((of(v) - of(low)) / (of(high) - of(low))) * (to - from);
}

// Curves: [{points: [[x, y], ...], colour, dash, title, group}].
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
    const look = { class: "curve", d: path, style: `stroke:${curve.colour}`, "stroke-dasharray": curve.dash };
    const parts = [element("path", look, [element("title", {}, curve.title)])];
    if (seen.length < 3) {
      for (const p of seen) parts.push(element("circle", { cx: x(p[0]), cy: y(p[1]), r: 2.5, style: `fill:${curve.colour}` }));
    }
    svg.append(element("g", { "data-group": curve.group }, parts));
  }
  return svg;
}

// From faint (worst) to strong (best), against the paper of the page.
const shade = (share, colour = "good") =>
  `color-mix(in srgb, var(--${colour}) ${Math.round(10 + 90 * share)}%, var(--paper))`;

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
      svg.append(element("rect", { ...box, style: `fill:${found ? shade(share) : "none"}`, class: found ? null : "axis" }));
      svg.append(element("text", { x: box.x + 10, y: box.y + h / 2 + 4, class: found ? "strong" : null }, found ? found.text : "–"));
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
      element("path", { class: "curve", d: path, style: `stroke:${line.colour};stroke-width:${line.best ? 3 : 1.5}px` }, [element("title", {}, line.title)]),
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

// Settings one below the other: [{label, values, spread, colour, best, group}], the mean as a dot with
// its deviation, single runs as rings.
function plotDots(lines, { title, room }) {
  const narrow = room < 600, h = narrow ? 46 : 30, top = 8;
  const widest = Math.max(...lines.map((l) => l.label.length)) * 7 + 20;
  const left = narrow ? 14 : Math.min(widest, room / 2), right = 24;
  const width = Math.max(300, Math.min(900, room)), height = top + h * lines.length + 40;
  const ends = lines.flatMap(({ values, spread }) => [...values, spread[0] - (spread[1] || 0), spread[0] + (spread[1] || 0)]);
  const [x0, x1] = extent(ends);
  const x = scale(x0, x1, left + 10, width - right);
  const bottom = height - 40;
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": `${title} of each setting` });
  const at = ticks(x0, x1, narrow ? 3 : 6);
  for (const tick of at) {
    svg.append(element("line", { class: "axis", x1: x(tick), x2: x(tick), y1: top, y2: bottom }));
    svg.append(element("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, tickText(tick, at[1] - at[0])));
  }
  svg.append(element("text", { x: width - right, y: height - 6, "text-anchor": "end" }, title));
  lines.forEach((line, i) => {
    const y = top + h * i + (narrow ? 30 : h / 2);
    const [mean, sd] = line.spread, style = `stroke:${line.colour};fill:${line.colour}`;
    const label = { class: "strong", x: narrow ? 0 : left - 8, y: narrow ? y - 14 : y + 4, "text-anchor": narrow ? "start" : "end" };
    const parts = [element("text", label, line.label)];
    if (sd) parts.push(element("line", { x1: x(mean - sd), x2: x(mean + sd), y1: y, y2: y, style, "stroke-width": 2 }));
    for (const value of line.values) parts.push(element("circle", { cx: x(value), cy: y, r: 4, style: `stroke:${line.colour};fill:none` }));
    parts.push(element("circle", { class: line.best ? "dot winner" : "dot", cx: x(mean), cy: y, r: line.best ? 6 : 4, style }, [element("title", {}, line.title)]));
    svg.append(element("g", { "data-group": line.group }, parts));
  });
  return svg;
}

// A drawing as a file of its own: what the style sheet says is written into it.
function saveDrawing(svg, name) {
  const copy = svg.cloneNode(true);
  const nodes = [svg, ...svg.querySelectorAll("*")], copies = [copy, ...copy.querySelectorAll("*")];
  nodes.forEach((node, i) => {
    const style = getComputedStyle(node);
    copies[i].removeAttribute("class");
    for (const key of ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-family", "font-size", "text-anchor", "paint-order"]) {
      copies[i].style.setProperty(key, style.getPropertyValue(key));
    }
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const link = element("a", { href: URL.createObjectURL(new Blob([copy.outerHTML], { type: "image/svg+xml" })), download: `${name}.svg` });
  link.click();
  URL.revokeObjectURL(link.href);
}

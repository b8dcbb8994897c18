// The page itself: fills the sections from the data, and redraws on a choice.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = { metric: data.metrics.length ? data.metrics[0].key : null, sort: null };
const metricOf = (key) => data.metrics.find((m) => m.key === key);
const higher = (key) => metricOf(key).better === "higher";
// The setting that the seeds show to be the best; null where they do not tell, or no way is better.
function bestSetting(key) {
  const { lead, tied } = metricOf(key);
  return tied.length ? null : lead;
}

// How curves of a setting are drawn, as a legend.
function swatch(i) {
  const line = { class: "curve", d: "M0,6H30", style: `stroke:${colourOf(i)};stroke-width:2.5px`, "stroke-dasharray": dashOf(i) };
  return element("svg", { class: "line", viewBox: "0 0 30 12", "aria-hidden": "true" }, [element("path", line)]);
}

// A drawing in its place, with a button that keeps it as a file; or a word where there is none.
function put(where, drawing, name) {
  if (!(drawing instanceof SVGElement)) return $(where).replaceChildren(drawing);
  const save = element("button", { type: "button", class: "save" }, "save as SVG");
  save.addEventListener("click", () => saveDrawing(drawing, name));
  $(where).replaceChildren(drawing, save);
}

function plural(n, word) { return `${n} ${word}${n === 1 ? "" : "s"}`; }

function fillHeader() {
  document.title = `${data.title} – ccdiff compare`;
  $("title").textContent = data.title;
  for (const { key } of data.metrics) $("metric").append(element("option", { value: key }, key));
  $("metric").addEventListener("change", () => { state.metric = $("metric").value; draw(); });
}

// What leads by the figure that is looked at.
function fillLead() {
  const failed = data.jobs.filter((job) => job.problem).length;
  const lead = [`${plural(data.jobs.length, "run")} of ${plural(data.settings.length, "setting")}`];
  if (failed) lead.push(`, ${failed} without a result`);
  lead.push(". ");
  const standing = state.metric === null ? null : metricOf(state.metric).standing;
  if (standing) {
    // What leads is in bold, what it is tied with is not.
    const text = standing[0].toUpperCase() + standing.slice(1), end = text.indexOf(", which");
    lead.push(element("b", {}, end < 0 ? text : text.slice(0, end)), end < 0 ? "." : `${text.slice(end)}.`);
  }
  $("lead").replaceChildren(...lead.map((part) => (part instanceof Node ? part : document.createTextNode(part))));
}

function heading(title, sort, numeric) {
  const button = element("button", { type: "button" }, title);
  button.addEventListener("click", () => {
    const again = state.sort && state.sort.title === title;
    state.sort = { title, of: sort, down: again && !state.sort.down };
    fillSettings();
  });
  const sorted = state.sort && state.sort.title === title;
  const way = sorted ? (state.sort.down ? "descending" : "ascending") : null;
  return element("th", { class: numeric ? "figure" : null, scope: "col", "aria-sort": way }, [button]);
}

function compareValues(a, b) {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? String(a).localeCompare(String(b)) : x - y;
}

function fillSettings() {
  const rows = data.settings.map((setting, i) => i);
  const worst = (key) => (higher(key) ? -Infinity : Infinity);
  const value = (key) => (i) => (data.settings[i].metrics[key] || [worst(key)])[0];
  const by = state.sort || { of: value(state.metric), down: state.metric && higher(state.metric) };
  if (state.metric || state.sort) {
    rows.sort((a, b) => compareValues(by.of(a), by.of(b)) * (by.down ? -1 : 1));
  }
  const head = element("tr", {}, [
    ...data.axes.map((axis) => heading(axis, (i) => data.settings[i].values[axis], false)),
    heading("runs", (i) => data.settings[i].jobs.length, true),
    ...data.metrics.map(({ key }) => heading(key, value(key), true)),
  ]);
  const body = rows.map((i) => {
    const setting = data.settings[i];
    const done = setting.jobs.filter((j) => !data.jobs[j].problem).length;
    const names = data.axes.length ? data.axes.map((axis) => setting.values[axis]) : [];
    const cells = names.map((name, k) => element("td", {}, k ? [name] : [swatch(i), name]));
    const all = setting.jobs.length;
    cells.push(element("td", { class: "figure" }, done === all ? all : `${done} of ${all}`));
    for (const { key } of data.metrics) {
      const spread = setting.metrics[key];
      const best = spread && bestSetting(key) === i;
      const parts = spread ? [figure(spread[0])] : ["–"];
      if (spread && spread[1] !== null) parts.push(element("span", { class: "sd" }, ` ± ${figure(spread[1])}`));
      const { lead, tied } = metricOf(key);
      if (spread && tied.length && (i === lead || tied.includes(i))) parts.push(element("span", { class: "sd" }, " ="));
      cells.push(element("td", { class: best ? "figure best" : "figure" }, parts));
    }
    return element("tr", {}, cells);
  });
  $("settings").replaceChildren(element("thead", {}, [head]), element("tbody", {}, body));
  $("settings-note").textContent =
    "Mean ± standard deviation over seeds; only what differs is shown. ▸ marks the best, where it is known which way is better and the seeds tell it apart from all others; = marks those that they do not tell apart from the one with the best mean. Click a heading to sort.";
}

function distinct(axis) {
  return [...new Set(data.settings.map((s) => s.values[axis]))].sort(compareValues);
}

function goodness(key) {
  const means = data.settings.map((s) => s.metrics[key]).filter(Boolean).map((s) => s[0]);
  const [low, high] = extent(means);
  // Where neither way is better, stronger is more.
  return (value) => (metricOf(key).better === "lower" ? high - value : value - low) / (high - low);
}

function drawHeat(key) {
  const [rowAxis, columnAxis] = data.axes;
  const find = (r, c) => data.settings.findIndex((s) => s.values[rowAxis] === r && s.values[columnAxis] === c);
  const cell = (r, c) => {
    const i = find(r, c);
    const spread = i < 0 ? null : data.settings[i].metrics[key];
    return spread ? { value: spread[0], text: spreadText(spread), best: bestSetting(key) === i } : null;
  };
  $("map-title").textContent = `${rowAxis} against ${columnAxis}`;
  $("map-note").textContent = metricOf(key).better ? `${key}; the stronger the better, the best outlined.` : `${key}; the stronger the more.`;
  const titles = { rowTitle: rowAxis, columnTitle: columnAxis, goodness: goodness(key) };
  return plotHeat(distinct(rowAxis), distinct(columnAxis), cell, titles);
}

function parallelAxis(title, values, ends) {
  const numbers = values.map(Number);
  if (numbers.every((n) => Number.isFinite(n)) && new Set(numbers).size > 1) {
    const [low, high] = extent(numbers);
    // Learning rates and the like spread over decades.
    const log = low > 0 && high / low > 30;
    const at = scale(low, high, 0, 1, log);
    const all = [...new Set(numbers)].sort((a, b) => a - b);
    const shown = all.length <= 6 && !ends ? all : [low, high];
    return { title, at: (value) => at(Number(value)), labels: shown.map((n) => [at(n), ends ? figure(n) : String(+n.toPrecision(3))]) };
  }
  const all = [...new Set(values)].sort(compareValues);
  const at = (value) => (all.length === 1 ? 0.5 : all.indexOf(value) / (all.length - 1));
  return { title, at, labels: all.map((value) => [at(value), ends ? figure(value) : value]) };
}

function drawParallel(key) {
  const axes = data.axes.map((axis) => {
    const made = parallelAxis(axis, data.settings.map((s) => s.values[axis]), false);
    return { ...made, position: (line) => made.at(line.setting.values[axis]) };
  });
  const known = data.settings.map((setting, group) => ({ setting, group })).filter((l) => l.setting.metrics[key]);
  const made = parallelAxis(key, known.map((l) => l.setting.metrics[key][0]), true);
  axes.push({ ...made, position: (line) => made.at(line.setting.metrics[key][0]) });
  const good = goodness(key);
  const lines = known.map((line) => ({
    ...line,
    best: bestSetting(key) === line.group,
    colour: bestSetting(key) === line.group ? "var(--mark)" : shade(0.2 + 0.8 * good(line.setting.metrics[key][0]), "c0"),
    title: `${line.setting.label}: ${spreadText(line.setting.metrics[key])}`,
  }));
  lines.sort((a, b) => a.best - b.best);
  $("map-title").textContent = "All settings at once";
  $("map-note").textContent = `One line per setting, the stronger the ${metricOf(key).better ? `better by ${key}, the best in red` : `more of ${key}`}.`;
  return plotParallel(axes, lines);
}

// One axis: its settings in order, each with what its runs got.
function drawDots(key) {
  const order = data.settings.map((_, i) => i).filter((i) => data.settings[i].metrics[key]);
  const axis = data.axes[0];
  order.sort((a, b) => compareValues(data.settings[a].values[axis], data.settings[b].values[axis]));
  $("map-title").textContent = `${key} by ${axis}`;
  $("map-note").textContent = "The mean over seeds with its standard deviation; rings are single runs.";
  return plotDots(order.map((i) => ({
    label: data.settings[i].label,
    values: data.settings[i].jobs.map((j) => data.jobs[j].results[key]).filter((v) => v !== undefined),
    spread: data.settings[i].metrics[key],
    colour: colourOf(i), best: bestSetting(key) === i, group: i,
    title: `${data.settings[i].label}: ${spreadText(data.settings[i].metrics[key])}`,
  })), { title: key, room: $("map").clientWidth });
}

function drawMap() {
  const known = state.metric === null ? 0 : data.settings.filter((s) => s.metrics[state.metric]).length;
  const enough = data.axes.length > 0 && known > 1;
  $("map-section").hidden = !enough;
  if (!enough) return;
  const cells = data.axes.length === 2 ? distinct(data.axes[0]).length * distinct(data.axes[1]).length : Infinity;
  const heat = cells <= 100 && cells < 2 * data.settings.length;
  const draw = data.axes.length === 1 ? drawDots : heat ? drawHeat : drawParallel;
  put("map", draw(state.metric), "settings");
}

function drawCurves() {
  const axis = Number(document.querySelector("input[name=x]:checked").value);
  drawnFor = $("curves").clientWidth;
  const curves = data.settings.flatMap((setting, i) => setting.jobs.map((j) => ({
    points: (data.jobs[j].curves[state.metric] || [])
      .filter((p) => p[axis] !== null).map((p) => [p[axis], p[2]]),
    colour: colourOf(i), dash: dashOf(i), title: data.jobs[j].name, group: i,
  })));
  const most = state.metric === null ? 0 : Math.max(...curves.map((c) => c.points.length));
  $("legend").hidden = most < 2;
  put("curves", most < 2
    ? element("p", { class: "absent" }, most ? "Each run has logged this figure once: the table of settings has it." : "No run has logged this figure.")
    : plotCurves(curves, {
      xTitle: axis ? "seconds of training" : "images seen", yTitle: state.metric, log: $("log").checked, room: $("curves").clientWidth,
    }), "curves");
}

function costCell({ spread, reached, runs, unknown }) {
  if (spread) {
    const sd = spread[1] === null ? [] : [element("span", { class: "sd" }, ` ± ${amount(spread[1], 2)}`)];
    return [amount(spread[0]), ...sd];
  }
  if (unknown === runs) return ["–"];
  if (!unknown) return [reached ? `by ${reached} of ${runs} only` : "never"];
  return [`by ${reached} of ${runs}, ${unknown} not known`];
}

function drawCost() {
  const metric = state.metric === null ? null : metricOf(state.metric);
  const cost = metric && metric.cost;
  $("cost-section").hidden = !cost || !cost.thresholds.length;
  if ($("cost-section").hidden) return;
  const sign = metric.better === "higher" ? "≥" : "≤";
  $("cost-title").textContent = `Cost to reach, in ${data.by}`;
  $("cost-note").textContent = `Until ${metric.key} is first so good, between two looks by a straight line; mean ± standard deviation over seeds. Where a run never gets there, there is no mean: that of the others would be the better, the more fail. Not known is what failed before it got there, or has no record of it.`;
  const head = ["setting", ...cost.thresholds.map((t) => `${sign} ${figure(t)}`)]
    .map((title, k) => element("th", { scope: "col", class: k ? "figure" : null }, title));
  const body = data.settings.map((setting, i) => {
    return element("tr", {}, [
      element("td", {}, [swatch(i), setting.label]),
      ...cost.settings[i].map((reach) => element("td", { class: "figure" }, costCell(reach))),
    ]);
  });
  $("cost").replaceChildren(element("thead", {}, [element("tr", {}, head)]), element("tbody", {}, body));
  const curves = data.settings.map((setting, i) => ({
    points: cost.thresholds.map((t, k) => [cost.settings[i][k].spread, t]).filter(([spread]) => spread).map(([spread, t]) => [spread[0], t]),
    colour: colourOf(i), dash: dashOf(i), title: setting.label, group: i,
  }));
  const enough = curves.some((c) => new Set(c.points.map((p) => p[0])).size > 1);
  put("cost-plot", enough
    ? plotCurves(curves, { xTitle: `${data.by} until it is reached`, yTitle: metric.key, log: false, room: $("cost-plot").clientWidth })
    : "", "cost");
}

function highlight(group) {
  for (const node of document.querySelectorAll("[data-group]")) {
    node.classList.toggle("faint", group !== null && Number(node.dataset.group) !== group);
  }
}

function fillLegend() {
  $("legend").append(...data.settings.map((setting, i) => {
    const entry = element("button", { type: "button" }, [swatch(i), setting.label]);
    for (const event of ["mouseenter", "focus"]) entry.addEventListener(event, () => highlight(i));
    for (const event of ["mouseleave", "blur"]) entry.addEventListener(event, () => highlight(null));
    return entry;
  }));
}

function drawGrids() {
  const step = data.steps[Number($("step").value)], seed = $("seed").value;
  $("step-value").textContent = step;
  $("grids").replaceChildren(...data.settings.map((setting, i) => {
    const j = setting.jobs.find((k) => data.jobs[k].seed === seed);
    const job = j === undefined ? null : data.jobs[j];
    // A run that was good enough before that step stays as it was then.
    const last = job ? Math.max(...Object.keys(job.grids).map(Number)) : -Infinity;
    const at = job && !job.grids[step] && !job.problem && last < step ? last : step;
    const picture = job && job.grids[at]
      ? element("img", { src: job.grids[at], alt: `samples of ${job.name} at step ${at}` })
      : element("p", { class: "absent" }, job && job.problem ? job.problem : "no grid at this step");
    const result = job && state.metric ? job.results[state.metric] : undefined;
    const caption = [setting.label];
    if (picture.localName === "img" && at !== step) caption.push(` (its last, at step ${at})`);
    if (result !== undefined) caption.push(element("span", { class: "figure" }, `${state.metric} ${figure(result)}`));
    const best = state.metric !== null && bestSetting(state.metric) === i;
    return element("figure", { class: best ? "best" : null }, [element("figcaption", {}, caption), picture]);
  }));
}

function fillGridChoices() {
  $("grids-section").hidden = data.steps.length === 0;
  $("step").setAttribute("max", Math.max(0, data.steps.length - 1));
  $("step").value = Math.max(0, data.steps.length - 1);
  const seeds = [...new Set(data.jobs.map((job) => job.seed))].sort(compareValues);
  $("seed").append(...seeds.map((seed) => element("option", { value: seed }, seed)));
  $("step").addEventListener("input", drawGrids);
  $("seed").addEventListener("change", drawGrids);
}

function fillRuns() {
  const head = ["run", "ended", "how to repeat it"].map((title) => element("th", { scope: "col" }, title));
  const body = data.jobs.map((job) => element("tr", {}, [
    element("td", {}, job.name),
    element("td", { class: job.problem ? "problem" : null }, job.problem || job.status || "–"),
    element("td", {}, job.command
      ? [element("details", {}, [element("summary", {}, "command"), element("code", {}, job.command)])] : "–"),
  ]));
  $("runs").replaceChildren(element("thead", {}, [element("tr", {}, head)]), element("tbody", {}, body));
}

function draw() {
  if (state.metric) state.sort = null;
  fillLead();
  fillSettings();
  drawMap();
  drawCurves();
  drawCost();
  drawGrids();
}

let drawnFor = 0;
// Curves have the width of their box: a phone that is turned has another.
window.addEventListener("resize", () => {
  if ($("curves").clientWidth === drawnFor) return;
  drawMap();
  drawCurves();
  drawCost();
});

fillHeader();
fillLegend();
fillGridChoices();
fillRuns();
for (const input of document.querySelectorAll("input[name=x], #log")) input.addEventListener("change", drawCurves);
draw();

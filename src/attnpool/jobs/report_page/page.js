// The page of the report: what the reader chooses, the table, and drawing all of it again when something changes.
"use strict";

const numbers = JSON.parse(document.getElementById("numbers").textContent);
const state = {
  data: 0, x: "int8_peak", y: "", log: false, baseline: 0, chosen: 0, dtype: "int8", curve: "", sort: "", down: true,
  hidden: new Set(),
};
const MOST_CURVES = 7, WIDE = 10;
const paper = matchMedia("print"), phone = matchMedia("(max-width: 40rem)");
const night = matchMedia("(prefers-color-scheme: dark)");
let printing = false;

const find = (id) => document.getElementById(id);
const part = () => numbers.data[state.data];

/** An element with attributes, and children that are elements or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// ---- what the reader chooses

function fill(id, options, chosen) {
  find(id).replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  find(id).value = chosen;
}

function onChange(id, take) {
  find(id).addEventListener("change", (event) => {
    take(event.target);
    draw();
  });
}

const places = () => part().configurations.map((c, i) => [i, c.name]);

/**
 * Start with a data set: what was measured on it, as before where that is known here, too; its baseline, the first other
 * configuration for the classes, and a logarithm if it helps.
 */
function openData(place) {
  state.data = place;
  const { measures, curves, goodness } = part();
  state.y = among(measures, state.y);
  state.curve = among(curves, state.curve);
  if (!columns().some((column) => column.key === state.sort)) [state.sort, state.down] = [measures[0].key, true];
  fill("y", measures.map((q) => [q.key, q.label]), state.y);
  fill("curve", curves.map((q) => [q.key, q.label]), state.curve);
  find("scatter-title").textContent = `${goodness[0].toUpperCase()}${goodness.slice(1)} against cost`;
  stretch();
  state.baseline = part().baseline;
  state.chosen = otherThan(state.baseline);
  state.hidden = new Set(places().map(([i]) => i).slice(MOST_CURVES));
  fill("baseline", places(), state.baseline);
}

/** The key itself if one of the quantities has it, or that of the first. */
function among(quantities, key) {
  return (quantities.find((q) => q.key === key) ?? quantities[0]).key;
}

/** A logarithm if the costs go far apart, unless the reader has said what it shall be. */
function stretch() {
  if (state.told) return;
  const costs = part().configurations.map((c) => c.costs[state.x]).filter((cost) => cost > 0);
  state.log = Math.max(...costs) > WIDE * Math.min(...costs);
  find("log").checked = state.log;
}

function otherThan(place) {
  return part().configurations.length === 1 ? place : place === 0 ? 1 : 0;
}

function begin() {
  fill("data", numbers.data.map((p, i) => [i, p.name]), 0);
  find("data-control").hidden = numbers.data.length === 1;
  fill("x", numbers.costs.map((q) => [q.key, q.label]), state.x);
  fill("dtype", numbers.dtypes.map((d) => [d, d]), state.dtype);
  onChange("data", (e) => openData(Number(e.value)));
  for (const id of ["y", "dtype", "curve"]) onChange(id, (e) => { state[id] = e.value; });
  onChange("x", (e) => { state.x = e.value; stretch(); });
  for (const id of ["baseline", "chosen"]) onChange(id, (e) => { state[id] = Number(e.value); });
  onChange("log", (e) => { state.log = e.checked; state.told = true; });
  for (const query of [night, paper, phone]) query.addEventListener("change", draw);
  for (const moment of ["beforeprint", "afterprint"]) {
    addEventListener(moment, () => {
      printing = moment === "beforeprint";
      draw();
    });
  }
  openData(0);
  draw();
}

// ---- the table

/** Columns: key, title, whether the largest comes first, the number to sort by, and the cell. */
function columns() {
  const [first, ...others] = part().measures;
  const measure = (q) => ({
    key: q.key, title: q.title, down: q.up,
    value: (c) => c.measures[q.key]?.[0] ?? null,
    cell: (c) => estimateCell(c.measures[q.key], q),
  });
  const cost = (q) => ({
    key: q.key, title: q.title, down: false,
    value: (c) => c.costs[q.key],
    cell: (c) => [c.costs[q.key] === null ? "–" : numberText(c.costs[q.key], q)],
  });
  const isShown = (q) => !numbers.dtypes.some((d) => d !== state.dtype && q.key.startsWith(`${d}_`));
  const difference = {
    key: "difference", title: "difference,\npoints", down: true,
    value: (c, i) => part().pairs[state.baseline][i]?.measures[first.key][0] ?? null,
    cell: (c, i) => differenceCell(i, first),
  };
  const count = (c) => c.seeds.length;
  const seeds = { key: "seeds", title: "seeds", down: true, value: count, cell: (c) => [String(count(c))] };
  const name = { key: "name", title: "configuration", down: false, value: (c) => c.name };
  const costs = numbers.costs.filter(isShown).map(cost);
  return [name, seeds, measure(first), difference, ...others.map(measure), ...costs];
}

function estimateCell(pair, quantity) {
  if (pair === null) return ["–"];
  const [mean, half] = pair;
  const value = numberText(mean, quantity);
  if (half === null) return [value, make("small", {}, "one seed: no interval")];
  return [`${value} ± ${numberText(half, quantity)}`];
}

function differenceCell(place, quantity) {
  if (place === state.baseline) return [make("small", {}, "the baseline")];
  const found = part().pairs[state.baseline][place];
  if (!found) return [make("small", {}, "no seed in common")];
  const [mean, half] = found.measures[quantity.key];
  const text = `${mean > 0 ? "+" : ""}${numberText(mean, quantity)}`;
  if (half === null) return [text, make("small", {}, "1 pair: no interval")];
  const sure = Math.abs(mean) > half;
  const look = !sure ? {} : { class: mean > 0 ? "better" : "worse" };
  const sign = !sure ? "" : mean > 0 ? "▲ " : "▼ ";
  const value = make("span", look, `${sign}${text} ± ${numberText(half, quantity)}`);
  return [value, make("small", {}, `${found.n} pairs, ${sure ? "excludes 0" : "holds 0"}`)];
}

/** Places of the configurations, sorted by a column; what is missing comes last. */
function sorted(column) {
  const order = part().configurations.map((c, i) => [column.value(c, i), i]);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  order.sort(([a, i], [b, j]) => {
    if (a === null || b === null) return (a === null) - (b === null) || i - j;
    return compare(a, b) * (state.down ? -1 : 1) || i - j;
  });
  return order.map(([, i]) => i);
}

function drawTable(theme) {
  const all = columns();
  const by = all.find((column) => column.key === state.sort) ?? all[0];
  const heads = all.map((column) => {
    const button = make("button", { type: "button", "data-sort": column.key }, column.title);
    button.addEventListener("click", () => sortBy(column));
    const order = column === by ? { "aria-sort": state.down ? "descending" : "ascending" } : {};
    return make("th", { scope: "col", ...(column.cell && { class: "number" }), ...order }, button);
  });
  const rows = sorted(by).map((i) => {
    const c = part().configurations[i];
    const name = make("span", { class: "named" }, mark(i, theme), make("span", {}, c.name));
    const cells = all.slice(1).map((column) => make("td", { class: "number" }, ...column.cell(c, i)));
    return make("tr", { "data-place": i }, make("th", { scope: "row" }, name), ...cells);
  });
  const focused = document.activeElement?.dataset?.sort;
  find("table").tHead.replaceChildren(make("tr", {}, ...heads));
  find("table").tBodies[0].replaceChildren(...rows);
  if (focused) find("table").querySelector(`[data-sort="${focused}"]`)?.focus();
  find("table-note").textContent =
    `±: half the 95 % interval over the seeds. Differences in ${part().measures[0].label} are to ` +
    `${part().configurations[state.baseline].name}, paired by seed; ▲ and ▼ mark those whose interval excludes 0.`;
}

function sortBy(column) {
  state.down = state.sort === column.key ? !state.down : column.down;
  state.sort = column.key;
  draw();
}

// ---- legends and notes

const PATHS = {
  circle: "M8 2a6 6 0 1 0 .01 0z", square: "M3 3h10v10h-10z", diamond: "M8 1l7 7-7 7-7-7z",
  "triangle-up": "M8 2l7 12h-14z", "triangle-down": "M8 14l-7-12h14z", cross: "M6 2h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  x: "M4 1l4 4 4-4 3 3-4 4 4 4-3 3-4-4-4 4-3-3 4-4-4-4z",
  star: "M8 1l2 5h5l-4 3.500 2 5.500-5-3.500-5 3.500 2-5.500-4-3.500h5z",
};
const STROKES = { solid: "none", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" };

/** The marker of a configuration, on its line if asked for. */
function mark(place, theme, line = false) {
  const style = styleOf(place, theme), space = "http://www.w3.org/2000/svg";
  const draw = (tag, attributes) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const box = line ? { class: "mark line", viewBox: "-10 0 36 16" } : { class: "mark", viewBox: "0 0 16 16" };
  const svg = draw("svg", { ...box, "aria-hidden": "true" });
  const stroke = { stroke: style.colour, "stroke-width": 2, "stroke-dasharray": STROKES[style.dash] };
  if (line) svg.append(draw("path", { d: "M-10 8h36", ...stroke }));
  svg.append(draw("path", { d: PATHS[style.symbol], fill: style.colour, stroke: theme.ink, "stroke-width": 0.6 }));
  return svg;
}

function drawLegends(theme) {
  const entry = ([i, name]) => make("li", {}, mark(i, theme), make("span", {}, name));
  find("legend").replaceChildren(...places().map(entry));
  const focused = document.activeElement?.dataset?.toggle;
  const toggle = ([i, name]) => {
    const attributes = { type: "button", "data-toggle": i, "aria-pressed": String(!state.hidden.has(i)) };
    const button = make("button", attributes, mark(i, theme, true), make("span", {}, name));
    button.addEventListener("click", () => {
      if (!state.hidden.delete(i)) state.hidden.add(i);
      draw();
    });
    return button;
  };
  find("toggles").replaceChildren(...places().map(toggle));
  if (focused) find("toggles").querySelector(`[data-toggle="${focused}"]`)?.focus();
}

function drawNotes() {
  const { configurations, fronts, measures } = part();
  const x = numbers.costs.find((q) => q.key === state.x), y = measures.find((q) => q.key === state.y);
  const names = fronts[x.key][y.key].map((i) => configurations[i].name);
  find("front").textContent =
    `On the front of ${y.label} (${y.up ? "higher" : "lower"} is better) against ${x.label}: ` +
    `${names.join(", ") || "none, as it was not measured"}. The dotted line is the front, whose markers are larger; ` +
    "bars are 95 % intervals.";
  find("classes-note").textContent = classesNote();
  const some = configurations.length > MOST_CURVES ? `; the first ${MOST_CURVES} are shown at the start` : "";
  find("curves-note").textContent =
    `Lines are means over the seeds, bands their 95 % intervals. The buttons show and hide configurations${some}.`;
}

function classesNote() {
  const { configurations, pairs, classes } = part();
  if (state.chosen === state.baseline) return "There is no other configuration to compare with the baseline.";
  const found = pairs[state.baseline][state.chosen];
  if (!found) return "The two have no seed in common.";
  const there = found.classes.filter((pair) => pair !== null).length;
  const some = there > MOST_CLASSES ? ` The ${MOST_CLASSES} largest of ${there} are shown.` : "";
  const none = there < classes.length ? ` Not in the test data, and left out: ${classes.length - there}.` : "";
  const how = found.n === 1
    ? "one pair, which has no interval."
    : `mean of ${found.n} pairs by seed, with 95 % intervals; coloured where the interval excludes 0.`;
  const [own, base] = [state.chosen, state.baseline].map((i) => configurations[i].name);
  return `${own} minus the baseline, ${base}: ${how}${some}${none}`;
}

// ---- all of it

function draw() {
  const onPaper = printing || paper.matches;
  const theme = themeOf(night.matches && !onPaper, numbers.colours);
  const size = { narrow: !onPaper && phone.matches, width: onPaper ? 660 : undefined };
  if (state.chosen === state.baseline) state.chosen = otherThan(state.baseline);
  fill("chosen", places().filter(([i]) => i !== state.baseline), state.chosen);
  drawLegends(theme);
  drawTable(theme);
  drawNotes();
  const show = (id, figure) => Plotly.react(id, figure.data, figure.layout, CONFIG);
  show("scatter", scatterFigure(numbers, part(), state, theme, size));
  show("curves", curvesFigure(part(), state, theme, size));
  const comparable = Boolean(part().pairs[state.baseline][state.chosen]);
  find("classes").hidden = !comparable;
  if (comparable) show("classes", classesFigure(part(), state, theme, size));
}

addEventListener("DOMContentLoaded", begin);

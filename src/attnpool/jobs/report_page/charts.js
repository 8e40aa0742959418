// The charts of the report: plotly figures, made from the numbers of a data set and the look of the page.
"use strict";

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };
const MOST_CLASSES = 30;

const LIGHT = { ink: "#1d2328", muted: "#5b666f", line: "#dfe3e6", card: "#fff", better: "#00694d", worse: "#a84300" };
const DARK = { ink: "#e7eaec", muted: "#a3aeb6", line: "#343c42", card: "#1a1f23", better: "#4fd0a5", worse: "#f95" };
const IN_THE_DARK = { "#000000": "#f0f0f0", "#0072B2": "#3f9bd8" };

/** Colours of ink, lines and configurations; `dark` is false on paper. */
function themeOf(dark, colours) {
  return dark ? { ...DARK, colours: colours.map((c) => IN_THE_DARK[c] ?? c) } : { ...LIGHT, colours };
}

/** Colour, symbol and dash of the configuration at a place. */
function styleOf(place, theme) {
  return {
    colour: theme.colours[place % theme.colours.length],
    symbol: SYMBOLS[place % SYMBOLS.length],
    dash: DASHES[place % DASHES.length],
  };
}

/** A name that plotly shows as it is: it would take <b>, <a> and the like for its own. */
function inert(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("$", "&#36;");
}

function shortened(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** A number in the unit of its quantity, without the unit. */
function numberText(value, quantity) {
  return (value * quantity.scale).toLocaleString("en", {
    minimumFractionDigits: quantity.digits,
    maximumFractionDigits: quantity.digits,
  });
}

/** E.g. "85.17 ± 1.45 %"; `pair` is mean and half of the interval. */
function pairText(pair, quantity, signed = false) {
  if (pair === null) return "not measured";
  const sign = signed && pair[0] > 0 ? "+" : "";
  const half = pair[1] === null ? "" : ` ± ${numberText(pair[1], quantity)}`;
  return `${sign}${numberText(pair[0], quantity)}${half} ${quantity.unit}`.trim();
}

function axis(title, theme, more = {}) {
  return {
    title: { text: title, font: { size: 13 }, standoff: 10 }, gridcolor: theme.line, linecolor: theme.line,
    zeroline: false, automargin: true, tickfont: { color: theme.muted }, fixedrange: true, ...more,
  };
}

function layoutOf(theme, size, height, more) {
  return {
    height, ...(size.width ? { width: size.width, autosize: false } : { autosize: true }),
    margin: { l: 10, r: size.narrow ? 10 : 20, t: 14, b: 10 }, showlegend: false, dragmode: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 12, color: theme.ink },
    hoverlabel: {
      align: "left", bgcolor: theme.card, bordercolor: theme.muted,
      font: { color: theme.ink, size: size.narrow ? 10 : 12 },
    },
    ...more,
  };
}

/** Ticks of a logarithmic axis at 1, 2 and 5 times the powers of ten, written out. */
function logTicks(values) {
  const known = values.filter((value) => value > 0);
  if (known.length === 0) return { type: "linear" };
  const first = Math.floor(Math.log10(Math.min(...known))), last = Math.ceil(Math.log10(Math.max(...known)));
  const powers = Array.from({ length: last - first + 1 }, (_, k) => 10 ** (first + k));
  const tickvals = powers.flatMap((power) => (powers.length > 5 ? [power] : [power, 2 * power, 5 * power]));
  return { type: "log", tickvals, ticktext: tickvals.map((value) => value.toLocaleString("en")) };
}

/** What is known of a configuration, a line each, for the pointer. */
function cardOf(c, measures, costs) {
  const line = (q, text) => `${q.label}: ${text}`;
  const lines = measures.map((q) => line(q, pairText(c.measures[q.key], q)));
  for (const q of costs) {
    lines.push(line(q, c.costs[q.key] === null ? "not measured" : `${numberText(c.costs[q.key], q)} ${q.unit}`.trim()));
  }
  const seeds = `${c.seeds.length === 1 ? "seed" : "seeds"}: ${c.seeds.join(", ")}`;
  return [`<b>${inert(shortened(c.name, 60))}</b>`, ...lines, seeds].join("<br>");
}

/** A value against a cost, the front as stairs: beyond them nothing was found. */
function scatterFigure(numbers, part, state, theme, size) {
  const x = numbers.costs.find((q) => q.key === state.x);
  const y = part.measures.find((q) => q.key === state.y);
  const onFront = part.fronts[x.key][y.key];
  const at = (i) => {
    const c = part.configurations[i];
    return [c.costs[x.key] * x.scale, c.measures[y.key][0] * y.scale];
  };
  const stairs = {
    name: "front", x: onFront.map((i) => at(i)[0]), y: onFront.map((i) => at(i)[1]), mode: "lines",
    hoverinfo: "skip", line: { shape: "hv", color: theme.muted, width: 1.5, dash: "dot" },
  };
  const points = part.configurations.map((c, i) => {
    const style = styleOf(i, theme);
    const known = c.costs[x.key] !== null && c.measures[y.key] !== null, best = onFront.includes(i);
    const half = known ? c.measures[y.key][1] : null;
    return {
      name: inert(c.name), x: known ? [at(i)[0]] : [], y: known ? [at(i)[1]] : [], mode: "markers",
      marker: {
        color: style.colour, symbol: style.symbol, size: best ? 14 : 10,
        line: { color: theme.ink, width: best ? 1.8 : 0.6 },
      },
      error_y: {
        type: "data", array: [(half ?? 0) * y.scale], visible: half !== null,
        color: style.colour, thickness: 1.5, width: 5,
      },
      hovertext: cardOf(c, part.measures, numbers.costs), hoverinfo: "text",
    };
  });
  return {
    data: [stairs, ...points],
    layout: layoutOf(theme, size, size.narrow || size.width ? 360 : 460, {
      xaxis: axis(x.title, theme, state.log ? logTicks(points.flatMap((point) => point.x)) : { type: "linear" }),
      yaxis: axis(y.title, theme),
    }),
  };
}

/** Places of the classes to show: all that have a difference, or those with the largest. */
function classesShown(difference) {
  const places = difference.classes.map((_, k) => k).filter((k) => difference.classes[k] !== null);
  if (places.length <= MOST_CLASSES) return places;
  places.sort((a, b) => Math.abs(difference.classes[b][0]) - Math.abs(difference.classes[a][0]));
  return places.slice(0, MOST_CLASSES).sort((a, b) => a - b);
}

/** Mean difference of each class, a bar with its interval; `part.pairs[baseline][chosen]` has to be there. */
function classesFigure(part, state, theme, size) {
  const measure = part.measures[0];
  const difference = part.pairs[state.baseline][state.chosen];
  const shown = classesShown(difference);
  const sure = ([mean, half]) => half !== null && Math.abs(mean) > half;
  const colour = (pair) => (sure(pair) ? (pair[0] > 0 ? theme.better : theme.worse) : theme.muted);
  const pairs = shown.map((k) => difference.classes[k]);
  const two = [state.chosen, state.baseline].map((i) => part.configurations[i]);
  const card = (k) => {
    const points = pairText(difference.classes[k], { ...measure, unit: "points" }, true);
    const lines = two.map((c) => `${inert(shortened(c.name, 60))}: ${pairText(c.classes[k], measure)}`);
    return [`<b>${inert(shortened(part.classes[k], 60))}</b>`, `difference: ${points}`, ...lines].join("<br>");
  };
  const bars = {
    type: "bar", orientation: "h", x: pairs.map((p) => p[0] * measure.scale), y: shown,
    hovertext: shown.map(card), hoverinfo: "text", textposition: "none",
    marker: { color: pairs.map(colour), opacity: pairs.map((p) => (sure(p) ? 1 : 0.55)) },
    error_x: {
      type: "data", array: pairs.map((p) => (p[1] ?? 0) * measure.scale), visible: difference.n > 1,
      color: theme.ink, thickness: 1.3, width: 4,
    },
  };
  const names = shown.map((k) => inert(shortened(part.classes[k], size.narrow ? 14 : 32)));
  return {
    data: [bars],
    layout: layoutOf(theme, size, 110 + 30 * shown.length, {
      bargap: 0.45,
      xaxis: axis(`difference in ${part.goodness}, points`, theme, { zeroline: true, zerolinecolor: theme.ink }),
      yaxis: axis("", theme, {
        type: "category", tickvals: shown, ticktext: names, autorange: "reversed", showgrid: false,
      }),
    }),
  };
}

/** Mean over the seeds after each epoch, with the band of its interval. */
function curvesFigure(part, state, theme, size) {
  const quantity = part.curves.find((q) => q.key === state.curve);
  const data = part.configurations.flatMap((c, i) => {
    if (state.hidden.has(i)) return [];
    const { epochs, values } = c.curves[quantity.key];
    const style = styleOf(i, theme);
    const banded = epochs.filter((_, k) => values[k][1] !== null);
    const edge = (sign) => values.filter((v) => v[1] !== null).map((v) => (v[0] + sign * v[1]) * quantity.scale);
    const band = {
      x: [...banded, ...banded.toReversed()], y: [...edge(1), ...edge(-1).toReversed()], fill: "toself", mode: "lines",
      line: { width: 0 }, fillcolor: style.colour, opacity: 0.13, hoverinfo: "skip", name: "band",
    };
    const card = (v, k) => `<b>${inert(shortened(c.name, 60))}</b><br>epoch ${epochs[k]}: ${pairText(v, quantity)}`;
    const line = {
      name: inert(c.name), x: epochs, y: values.map((v) => v[0] * quantity.scale),
      mode: epochs.length > 25 ? "lines" : "lines+markers",
      line: { color: style.colour, dash: style.dash, width: 2 },
      marker: { symbol: style.symbol, size: 7, color: style.colour },
      hovertext: values.map(card), hoverinfo: "text",
    };
    return banded.length ? [band, line] : [line];
  });
  const last = Math.max(...part.configurations.flatMap((c) => c.curves[quantity.key].epochs), 1);
  return {
    data,
    layout: layoutOf(theme, size, size.narrow || size.width ? 340 : 420, {
      xaxis: axis("epoch", theme, last <= 12 ? { dtick: 1 } : {}),
      yaxis: axis(quantity.title, theme),
    }),
  };
}

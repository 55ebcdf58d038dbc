// Charts, in the page's own colours.
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const PALETTE = ["#2a78c2", "#c2552a", "#3a9d5d", "#8a5cc2", "#b8982b", "#c23a6e", "#2aa3a8", "#7d7d7d", "#5d8a2a", "#a3622a"];

function look(more) {
  const text = token("--quiet"), grid = token("--grid");
  const axis = { color: text, gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true };
  return {
    margin: { l: 44, r: 12, t: 8, b: 30 }, paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 11, color: text }, hovermode: "closest",
    legend: { orientation: "h", y: 1.14, x: 0, font: { size: 11 } }, xaxis: { ...axis }, yaxis: { ...axis, rangemode: "tozero" },
    ...more(axis),
  };
}

const OPTIONS = { displayModeBar: false, responsive: true };
const drawn = new Map();

export function draw(element, traces, more = () => ({})) {
  drawn.set(element, [traces, more]);
  return window.Plotly.react(element, traces(), look(more), OPTIONS);
}

export function redraw() {
  for (const [element, [traces, more]] of drawn) draw(element, traces, more);
}

const when = (points) => points.map((p) => new Date(p.at_us / 1000).toISOString());

export function rate(element, past) {
  draw(
    element,
    () => [
      { x: when(past), y: past.map((p) => p.events_per_s), name: "a second", line: { color: token("--accent"), width: 1.6 } },
      { x: when(past), y: past.map((p) => p.lag), name: "lag", yaxis: "y2", line: { color: token("--other"), width: 1.4, dash: "dot" } },
    ],
    (axis) => ({ yaxis2: { ...axis, overlaying: "y", side: "right", rangemode: "tozero", showgrid: false } }),
  );
}

export function recall(element, past) {
  draw(element, () => [
    { x: when(past), y: past.map((p) => p.recall), name: "ours", line: { color: token("--accent"), width: 2 } },
    { x: when(past), y: past.map((p) => p.popularity_recall), name: "popularity", line: { color: token("--other"), width: 1.5, dash: "dot" } },
  ]);
}

export function map(element, points) {
  const names = [...new Set(points.map((p) => p.segment))].sort();
  const colour = (p) => PALETTE[names.indexOf(p.segment) % PALETTE.length];
  const trace = (space, symbol, name) => ({
    x: points.map((p) => p[space][0]), y: points.map((p) => p[space][1]), type: "scatter", mode: "markers", name,
    text: points.map((p) => `${plain(p.title)} (${plain(p.segment)})`), hoverinfo: "text",
    marker: { symbol, size: symbol === "x-thin" ? 6 : 6, color: points.map(colour), opacity: 0.75, line: { width: 1.2, color: points.map(colour) } },
  });
  draw(element, () => [trace("id", "circle", "ids"), trace("text", "x-thin", "texts")], () => ({}));
}

// Plotly reads a little markup in texts: none of it comes from outside.
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

export function deviations(element, one) {
  const x = one.ends;
  const lines = Object.entries(one.deviations).map(([name, y], n) => ({
    x, y, name, line: { width: 1.3, color: [token("--accent"), token("--other"), token("--quiet")][n] },
  }));
  draw(element, () => lines, (axis) => ({
    xaxis: { ...axis, title: { text: "edge", font: { size: 10 } } },
    yaxis: { ...axis, title: { text: "sd of the null", font: { size: 10 } } },
    shapes: [
      { type: "rect", xref: "paper", x0: 0, x1: 1, y0: -2, y1: 2, fillcolor: token("--accent"), opacity: 0.08, line: { width: 0 } },
      ...(one.null > 0 && one.null < x.length
        ? [{ type: "line", x0: x[one.null - 1], x1: x[one.null - 1], yref: "paper", y0: 0, y1: 1, line: { width: 1, dash: "dot", color: token("--quiet") } }]
        : []),
    ],
  }));
}

export function pacing(element, one) {
  const day = new Date(one.curve.length ? one.curve.at(-1).at_us / 1000 : Date.now());
  const hour = (n) => new Date(Date.UTC(day.getUTCFullYear(), day.getUTCMonth(), day.getUTCDate(), n)).toISOString();
  draw(element, () => [
    { x: one.planned.map((_, n) => hour(n + 1)), y: one.planned.map((s) => s * one.budget), name: "expected", line: { color: token("--other"), width: 1.5, dash: "dot" } },
    { x: when(one.curve), y: one.curve.map((p) => p.spent), name: "spent", line: { color: token("--accent"), width: 2 } },
  ]);
}

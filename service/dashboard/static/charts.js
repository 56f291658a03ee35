// Draws every chart of the dashboard and of the report with Apache ECharts, from the JSON data that
// stands next to each plot. The words are in the caption and the numbers in the table beneath it,
// so a plot is one image to a screen reader.

import { KINDS } from "./plots.js";

const charts = new Map();

/** Colours of the present theme, read from the style sheet. */
function theme() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: get("ink"), muted: get("muted"), line: get("line"), surface: get("surface"),
    accent: get("accent"), natural: get("natural"), warn: get("warn"), good: get("good"),
    hues: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => get(`d${i}`)), sans: get("sans"),
  };
}

function draw(plot) {
  const source = document.getElementById(plot.dataset.from);
  const option = KINDS[plot.dataset.chart](JSON.parse(source.textContent), theme());
  const rows = Number(plot.dataset.rows);
  plot.classList.add("drawn");
  let chart = charts.get(plot);
  if (!chart) {
    chart = echarts.init(plot, null, { renderer: "svg", height: rows ? Math.max(200, 84 + rows * 30) : undefined });
    charts.set(plot, chart);
    if (rows) plot.style.height = "auto";
  }
  chart.setOption(option, { notMerge: true });
}

/** Draw every chart under `root`; safe to call again when data has changed. */
export function drawAll(root) {
  for (const [plot, chart] of charts) {
    if (!plot.isConnected) {
      chart.dispose();
      charts.delete(plot);
    }
  }
  for (const plot of root.querySelectorAll("[data-chart]")) draw(plot);
}

let waiting = 0;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    for (const [plot, chart] of charts) {
      chart.resize();
      draw(plot);
    }
  }, 120);
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));

// Paper is light, whatever the screen is.
window.addEventListener("beforeprint", () => {
  document.documentElement.dataset.theme = "light";
  drawAll(document);
});
window.addEventListener("afterprint", () => {
  delete document.documentElement.dataset.theme;
  drawAll(document);
});

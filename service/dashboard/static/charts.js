// Draws every chart of the dashboard and of the report with Apache ECharts, from the JSON data that
// stands next to each plot. The words are in the caption and the numbers in the table beneath it,
// so a plot is one image to a screen reader. SVG, rich-text tooltips: no inline style is needed.

const charts = new Map();
const narrow = () => window.innerWidth < 560;

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

const SHAPES = ["circle", "rect", "triangle", "diamond"];
const DASHES = ["solid", "dashed", "dotted"];
const bits = (value) => value.toFixed(4);

function seconds(value) {
  if (value < 100) return `${+value.toFixed(1)} s`;
  if (value < 6000) return `${+(value / 60).toFixed(1)} min`;
  return `${+(value / 3600).toFixed(1)} h`;
}

function tokens(value) {
  for (const [scale, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
    if (value >= scale) return `${+(value / scale).toPrecision(3)} ${unit}`;
  }
  return `${value}`;
}

/** A shape of its own for each of eight series: four filled, four hollow. */
function marker(i, t) {
  return { symbol: SHAPES[i % 4], color: t.hues[i % 8], itemStyle: i % 8 < 4 ? { opacity: 0.85 } : hollow(t.hues[i % 8], t) };
}

function hollow(color, t) {
  return { color: t.surface, borderColor: color, borderWidth: 2, opacity: 1 };
}

/** What all charts share; `names` are those of the legend, which may need several lines. */
function base(t, names = []) {
  const letters = names.reduce((sum, name) => sum + name.length * 6.6 + 32, 0);
  const lines = Math.ceil(letters / Math.min(480, window.innerWidth - 70));
  return {
    animation: false,
    textStyle: { fontFamily: t.sans, color: t.ink },
    tooltip: {
      renderMode: "richText", confine: true, backgroundColor: t.surface, borderColor: t.line,
      textStyle: { color: t.ink, fontSize: 12 },
    },
    legend: {
      top: 0, left: 0, padding: [2, 0], itemHeight: 9, itemWidth: 14, itemGap: 12,
      data: names, textStyle: { color: t.muted, fontSize: 12 },
    },
    grid: {
      left: 4, right: 18, top: 12 + 22 * lines, bottom: 4,
      outerBoundsMode: "same", outerBoundsContain: "all",
    },
  };
}

function valueAxis(t, name, extra = {}) {
  return {
    type: "value", scale: true, name, nameLocation: "middle", nameGap: 28,
    nameTextStyle: { color: t.muted, fontSize: 12 },
    axisLine: { show: true, lineStyle: { color: t.line } },
    axisTick: { show: false }, splitNumber: narrow() ? 3 : 5,
    axisLabel: { color: t.muted, fontSize: 11, hideOverlap: true },
    splitLine: { lineStyle: { color: t.line, type: [2, 4] } },
    ...extra,
  };
}

function categoryAxis(t, names) {
  return {
    type: "category", data: names, inverse: true, axisTick: { show: false },
    axisLine: { lineStyle: { color: t.line } },
    axisLabel: { color: t.ink, fontSize: 12, interval: 0, overflow: "truncate", width: narrow() ? 108 : 130 },
    splitLine: { show: false },
  };
}

/** Best so far, in steps, over the runs that were measured and the references. */
function search(data, t) {
  const references = data.references.map((r, i) => ({
    name: r.name, type: "line", data: [], color: t.muted, symbol: "none",
    lineStyle: { type: "dashed", color: t.muted },
    markLine: {
      silent: true, symbol: "none", animation: false,
      lineStyle: { color: t.muted, type: DASHES[1 + (i % 2)], width: 1.5 },
      label: { formatter: `${r.name} ${bits(r.value)}`, position: "insideEndTop", color: t.muted, fontSize: 11 },
      data: [{ yAxis: r.value }],
    },
  }));
  const heights = [...data.best, ...data.runs].map((p) => p[1]);
  const ends = [...heights, ...data.references.map((r) => r.value)];
  const pad = (Math.max(...ends) - Math.min(...ends)) * 0.08 || 0.01;
  const last = data.best.length - 1;
  const run = (name, points) => ({
    name, type: "scatter", data: points, symbolSize: 7,
    tooltip: {
      formatter: (p) => `${p.value[2] || "searched"}${p.value[3] ? "" : ", breaks a constraint"}\n`
        + `${bits(p.value[1])} bits per byte after ${seconds(p.value[0])}`,
    },
  });
  return {
    ...base(t),
    xAxis: valueAxis(t, "training time, all rungs", {
      min: 0, axisLabel: { color: t.muted, fontSize: 11, formatter: seconds, hideOverlap: true },
    }),
    yAxis: valueAxis(t, "", {
      min: Math.min(...ends) - 2 * pad, max: Math.max(...ends) + pad,
      axisLabel: { color: t.muted, fontSize: 11, formatter: (v) => v.toFixed(2), showMinLabel: false, showMaxLabel: false },
    }),
    series: [
      {
        ...run("runs", data.runs.filter((p) => p[3])), color: t.natural, itemStyle: { opacity: 0.85 },
      },
      {
        ...run("runs that break a constraint", data.runs.filter((p) => !p[3])),
        symbol: "diamond", symbolSize: 10, itemStyle: { ...hollow(t.natural, t), borderWidth: 1.5 },
      },
      {
        name: "best so far", type: "line", step: "end", data: data.best, color: t.accent,
        lineStyle: { width: 2.5 }, symbol: "circle", symbolSize: (_, p) => (p.dataIndex === last ? 9 : 5),
        areaStyle: { opacity: 0.07, origin: "start" },
        label: { show: true, position: "bottom", distance: 8, color: t.accent, fontWeight: 600, align: "center",
          formatter: (p) => (p.dataIndex === last ? bits(p.value[1]) : "") },
        tooltip: { formatter: (p) => `best ${bits(p.value[1])} bits per byte\nafter ${seconds(p.value[0])}` },
      },
      ...references,
    ],
  };
}

/** Loss of one run per evaluation set. */
function lines(data, t) {
  const shared = base(t, data.series.map((s) => s.name));
  return {
    ...shared,
    tooltip: { ...shared.tooltip, trigger: "axis", valueFormatter: (v) => (v == null ? "–" : bits(v)) },
    xAxis: valueAxis(t, "trained tokens", {
      min: 0, axisLabel: { color: t.muted, fontSize: 11, formatter: tokens, hideOverlap: true },
    }),
    yAxis: valueAxis(t, ""),
    series: data.series.map((s, i) => ({
      name: s.name, type: "line", data: s.points, ...marker(i, t), symbolSize: 7, showAllSymbol: "auto",
      lineStyle: { width: 2, color: t.hues[i % 8], type: DASHES[Math.floor(i / 8) % 3] },
    })),
  };
}

/** One row per pair: from the reference's loss to the recommendation's. */
function pairs(data, t) {
  const several = new Set(data.rows.map((r) => r.reference)).size > 1;
  const names = data.rows.map((r) => (several ? `${r.reference}, pair ${r.pair}` : `pair ${r.pair}`));
  return {
    ...base(t, ["reference", "recommended"]),
    xAxis: valueAxis(t, "bits per byte, lower is better"),
    yAxis: categoryAxis(t, names),
    series: [
      {
        type: "custom", silent: true, tooltip: { show: false }, z: 1,
        data: data.rows.map((r, i) => [i, r.from, r.to]),
        renderItem: (_, api) => {
          const [x1, y] = api.coord([api.value(1), api.value(0)]);
          const [x2] = api.coord([api.value(2), api.value(0)]);
          return { type: "line", shape: { x1, y1: y, x2, y2: y }, style: { stroke: t.natural, lineWidth: 2 } };
        },
        encode: { x: [1, 2], y: 0 },
      },
      dots("reference", data.rows.map((r, i) => [r.from, i]), hollow(t.muted, t), "circle", names),
      dots("recommended", data.rows.map((r, i) => [r.to, i]), { color: t.accent, opacity: 1 }, "circle", names),
    ],
  };
}

function dots(name, values, itemStyle, symbol, names, size = 11) {
  return {
    name, type: "scatter", data: values, itemStyle, symbol, symbolSize: size, z: 3,
    tooltip: { formatter: (p) => `${names[p.value[1]]}\n${name}: ${bits(p.value[0])}` },
  };
}

/** One row per evaluation set: predicted interval, measured, baseline. */
function intervals(data, t) {
  const names = data.rows.map((r) => r.name);
  const known = (key) => data.rows.map((r, i) => [r[key] && r[key][1], i]).filter((p) => p[0] !== null);
  const whisker = (key, color, width, offset) => ({
    type: "custom", silent: true, tooltip: { show: false }, z: 2,
    data: data.rows.map((r, i) => (r[key] ? [i, r[key][0], r[key][2]] : null)).filter(Boolean),
    renderItem: (_, api) => {
      const [x1, y] = api.coord([api.value(1), api.value(0)]);
      const [x2] = api.coord([api.value(2), api.value(0)]);
      return {
        type: "line", shape: { x1, y1: y + offset, x2, y2: y + offset },
        style: { stroke: color, lineWidth: width, lineCap: "round" },
      };
    },
    encode: { x: [1, 2], y: 0 },
  });
  const series = [{ ...whisker("predicted", t.accent, 12, 0), name: "predicted interval", color: t.accent }];
  series[0].renderItem = faded(series[0].renderItem);
  if (known("baseline").length) {
    series.push(whisker("baseline", t.muted, 2, 0));
    series.push(dots("baseline, measured", known("baseline"), hollow(t.muted, t), "rect", names, 10));
  }
  if (known("measured").length) {
    series.push(whisker("measured", t.accent, 2, 0));
    series.push(dots("recommended, measured", known("measured"), { color: t.accent, opacity: 1 }, "circle", names, 10));
  } else {
    series.push(dots("recommended, predicted", known("predicted"), hollow(t.accent, t), "circle", names, 10));
  }
  return {
    ...base(t, series.filter((s) => s.name).map((s) => s.name)),
    xAxis: valueAxis(t, "bits per byte, lower is better"),
    yAxis: categoryAxis(t, names),
    series,
  };
}

function faded(render) {
  return (params, api) => {
    const item = render(params, api);
    item.style.opacity = 0.25;
    return item;
  };
}

/** Left-out predictions against observations, both from the mean of their set. */
function calibration(data, t) {
  const all = data.series.flatMap((s) => s.points.flat());
  const reach = Math.max(...all.map(Math.abs), 1e-6) * 1.1;
  const axis = (name, extra) => valueAxis(t, name, {
    min: -reach, max: reach, scale: false,
    axisLabel: { color: t.muted, fontSize: 11, formatter: (v) => v.toFixed(2), showMinLabel: false, showMaxLabel: false },
    ...extra,
  });
  return {
    ...base(t, data.series.map((s) => s.name)),
    xAxis: axis("predicted without the run, from the set's mean", {}),
    yAxis: axis("observed", { nameGap: 40, nameLocation: "middle" }),
    series: [
      ...data.series.map((s, i) => ({
        name: s.name, type: "scatter", data: s.points, ...marker(i, t), symbolSize: 7,
        tooltip: { formatter: (p) => `${s.name}\npredicted ${p.value[0].toFixed(4)}, observed ${p.value[1].toFixed(4)}` },
      })),
      {
        type: "line", data: [[-reach, -reach], [reach, reach]], symbol: "none", silent: true,
        lineStyle: { color: t.muted, width: 1, type: "dashed" }, tooltip: { show: false },
      },
    ],
  };
}

const KINDS = { search, lines, pairs, intervals, calibration };

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

// What each kind of chart looks like: functions from its JSON data and the colours of the theme to
// an option of Apache ECharts. SVG, rich-text tooltips: no inline style is needed.

import {
  DASHES, FORMS, base, bits, categoryAxis, hollow, key, marker, seconds, tick, tokens, valueAxis,
} from "./axes.js";

/** Best so far, in steps, over the runs that were measured and the references. */
function search(data, t) {
  const references = data.references.map((r, i) => ({
    name: r.name, type: "line", data: [], color: t.muted, symbol: "none",
    lineStyle: { type: "dashed", color: t.muted },
    markLine: {
      // By default the line is drawn at its value to two decimals.
      silent: true, symbol: "none", animation: false, precision: 6,
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
      axisLabel: { color: t.muted, fontSize: 11, formatter: tick("bits", Math.max(...ends) - Math.min(...ends)), showMinLabel: false, showMaxLabel: false },
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
  const ends = data.rows.flatMap((r) => [r.from, r.to]);
  return {
    ...base(t, ["reference", "recommended"]),
    xAxis: valueAxis(t, "bits per byte, lower is better", {
      axisLabel: { color: t.muted, fontSize: 11, formatter: tick("bits", Math.max(...ends) - Math.min(...ends)), hideOverlap: true },
    }),
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

function dots(name, values, itemStyle, symbol, names) {
  return {
    name, type: "scatter", data: values, itemStyle, symbol, symbolSize: 11, z: 3,
    tooltip: { formatter: (p) => `${names[p.value[1]]}\n${name}: ${bits(p.value[0])}` },
  };
}

/** A row for each name; in it bands, symbols with their intervals, and upright ticks. */
function rows(data, t) {
  const { axis, names } = data;
  const form = FORMS[axis.form];
  const all = data.series.flatMap((s) => s.values.filter(Boolean).flat());
  if (axis.zero) all.push(0);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const pad = (most - least) * 0.06 || Math.abs(most) * 0.1 || 0.01;
  // A dot at nothing would cover its name.
  const start = axis.form === "percent" && axis.low === 0 ? -pad / 4 : axis.low;
  const limits = axis.log ? {} : { min: start ?? least - pad, max: axis.high ?? (axis.form === "percent" ? Math.min(1, most + pad) : most + pad) };
  const label = tick(axis.form, most - least);
  const series = data.series.flatMap((s) => marks(s, t, names, form));
  if (axis.zero) {
    series.push({
      type: "line", data: [], silent: true,
      markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: t.muted, width: 1, type: "solid" }, data: [{ xAxis: 0 }] },
    });
  }
  const shared = base(t, data.series.length > 1 ? data.series.map((s) => s.name) : []);
  return {
    ...shared,
    legend: { ...shared.legend, data: data.series.length > 1 ? data.series.map((s) => key(s, t)) : [] },
    xAxis: {
      ...valueAxis(t, axis.name, {
        axisLabel: { color: t.muted, fontSize: 11, hideOverlap: true, formatter: label, showMinLabel: (axis.low != null && axis.form !== "percent") || axis.log, showMaxLabel: axis.high != null || axis.log },
      }),
      ...limits, type: axis.log ? "log" : "value",
    },
    yAxis: categoryAxis(t, names),
    series,
  };
}

function marks(one, t, names, form) {
  const color = t[one.tone];
  const told = (p) => {
    const [low, mean, high] = one.values[p.value[1]];
    return `${names[p.value[1]]}\n${one.name}: ${form(mean)}${high > low ? ` [${form(low)}, ${form(high)}]` : ""}`;
  };
  const at = one.values.map((v, i) => v && [v[1], i]).filter(Boolean);
  const spans = one.values.map((v, i) => v && [i, v[0], v[2]]).filter(Boolean);
  const spanned = (shape) => ({
    name: one.name, color, type: "custom", z: one.look === "band" ? 1 : 2, data: spans, encode: { x: [1, 2], y: 0 },
    tooltip: { formatter: (p) => told({ value: [0, p.value[0]] }) },
    renderItem: (_, api) => {
      const [x1, y] = api.coord([api.value(1), api.value(0)]);
      const [x2] = api.coord([api.value(2), api.value(0)]);
      return shape(x1, x2, y);
    },
  });
  const line = (width, shape) => ({ type: "line", shape, style: { stroke: color, lineWidth: width } });
  if (one.look === "band") {
    return [spanned((x1, x2, y) => ({
      type: "rect", shape: { x: x1, y: y - 6, width: Math.max(x2 - x1, 2), height: 12, r: 2 },
      style: { fill: color, opacity: 0.28 },
    }))];
  }
  if (one.look === "tick") return [spanned((x1, _, y) => line(3, { x1, x2: x1, y1: y - 9, y2: y + 9 }))];
  return [
    spanned((x1, x2, y) => line(2, { x1, x2, y1: y, y2: y })),
    {
      name: one.name, type: "scatter", data: at, z: 3, symbol: one.look === "square" ? "rect" : "circle",
      symbolSize: one.look === "square" ? 10 : 11, tooltip: { formatter: told },
      itemStyle: one.look === "dot" ? { color, opacity: 1 } : hollow(color, t),
    },
  ];
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

/** The objective of every run against what was predicted without it, with the interval. */
function left_out(data, t) {
  const all = data.points.flatMap(([m, p, half]) => [m, p - half, p + half]);
  const pad = (Math.max(...all) - Math.min(...all)) * 0.05 || 0.01;
  const [min, max] = [Math.min(...all) - pad, Math.max(...all) + pad];
  const axis = (name, extra) => valueAxis(t, name, {
    min, max, scale: false,
    axisLabel: { color: t.muted, fontSize: 11, formatter: tick("bits", max - min), showMinLabel: false, showMaxLabel: false },
    ...extra,
  });
  const holds = ([m, p, half]) => Math.abs(m - p) <= half;
  const group = (name, points, itemStyle, color) => [
    {
      name, color, type: "custom", silent: true, z: 1, data: points.map(([m, p, half]) => [m, p - half, p + half]),
      encode: { x: 0, y: [1, 2] },
      renderItem: (_, api) => {
        const [x, y1] = api.coord([api.value(0), api.value(1)]);
        const [, y2] = api.coord([api.value(0), api.value(2)]);
        return { type: "line", shape: { x1: x, y1, x2: x, y2 }, style: { stroke: color, lineWidth: 1.5, opacity: 0.7 } };
      },
    },
    {
      name, type: "scatter", data: points.map(([m, p]) => [m, p]), itemStyle, symbolSize: 8, z: 3,
      tooltip: { formatter: (p) => `measured ${bits(p.value[0])}\npredicted without it ${bits(p.value[1])} \u00b1${bits(points[p.dataIndex][2])}` },
    },
  ];
  const missed = data.points.filter((p) => !holds(p));
  const inside = `inside the ${data.level} interval`;
  const groups = [{ name: inside, look: "dot", tone: "accent" }, { name: "outside", look: "hollow", tone: "warn" }].slice(0, missed.length ? 2 : 1);
  const shared = base(t, groups.map((g) => g.name));
  return {
    ...shared,
    legend: { ...shared.legend, data: groups.map((g) => key(g, t)) },
    xAxis: axis("measured, bits per byte", {}),
    yAxis: axis("predicted without the run", { nameGap: 40 }),
    series: [
      {
        type: "line", data: [[min, min], [max, max]], symbol: "none", silent: true, tooltip: { show: false },
        lineStyle: { color: t.muted, width: 1, type: "dashed" },
      },
      ...group(inside, data.points.filter(holds), { color: t.accent, opacity: 0.9 }, t.accent),
      ...(missed.length ? group("outside", missed, hollow(t.warn, t), t.warn) : []),
    ],
  };
}

/** Two parts of the objective against each other, both with their intervals. */
function front(data, t) {
  const chosen = data.recommended;
  const cross = ([x, y]) => [x[0], x[1], x[2], y[0], y[1], y[2]];
  const dot = (name, at, itemStyle, size) => ({
    name, type: "scatter", z: 3, itemStyle, symbolSize: size,
    data: at.map((i) => [data.points[i][0][1], data.points[i][1][1], i]),
    label: { show: true, position: "top", distance: 7, color: t.ink, fontSize: 11, formatter: (p) => `${p.value[2] + 1}` },
    tooltip: {
      formatter: (p) => `mixture ${p.value[2] + 1}\n` + data.parts.map((part, k) => `${part} ${bits(data.points[p.value[2]][k][1])}`).join("\n"),
    },
  });
  const others = data.points.map((_, i) => i).filter((i) => i !== chosen);
  const range = (k) => {
    const all = data.points.flatMap((p) => [p[k][0], p[k][2]]);
    const pad = (Math.max(...all) - Math.min(...all)) * 0.08 || 0.01;
    return { min: Math.min(...all) - pad, max: Math.max(...all) + pad };
  };
  const axis = (k, extra) => valueAxis(t, `${data.parts[k]}, bits per byte`, {
    ...range(k), axisLabel: { color: t.muted, fontSize: 11, formatter: (v) => v.toFixed(2), showMinLabel: false, showMaxLabel: false, hideOverlap: true }, ...extra,
  });
  return {
    ...base(t, chosen === null ? ["on the front"] : ["on the front", data.word]),
    xAxis: axis(0, {}),
    yAxis: axis(1, { nameGap: 44 }),
    series: [
      {
        type: "custom", silent: true, tooltip: { show: false }, z: 1, data: data.points.map(cross), encode: { x: [0, 2], y: [3, 5] },
        renderItem: (_, api) => {
          const v = (k) => api.value(k);
          const bar = (a, b) => {
            const [x1, y1] = api.coord(a);
            const [x2, y2] = api.coord(b);
            return { type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: t.natural, lineWidth: 1.5 } };
          };
          return { type: "group", children: [bar([v(0), v(4)], [v(2), v(4)]), bar([v(1), v(3)], [v(1), v(5)])] };
        },
      },
      dot("on the front", others, hollow(t.accent, t), 10),
      ...(chosen === null ? [] : [dot(data.word, [chosen], { color: t.accent, opacity: 1 }, 13)]),
    ],
  };
}

/** Three parts or more: an axis for each, a line for each mixture. */
function parallel(data, t) {
  const line = (name, at, lineStyle) => ({
    name, type: "parallel", lineStyle, color: lineStyle.color, smooth: false,
    data: at.map((i) => ({ name: `mixture ${i + 1}`, value: data.points[i].map((p) => p[1]) })),
    tooltip: {
      formatter: (p) => `${p.name}\n` + data.parts.map((part, k) => `${part} ${bits(p.value[k])}`).join("\n"),
    },
  });
  const others = data.points.map((_, i) => i).filter((i) => i !== data.recommended);
  const shared = base(t, data.recommended === null ? ["on the front"] : ["on the front", data.word]);
  delete shared.grid;
  return {
    ...shared,
    parallel: { left: 50, right: 60, top: 70, bottom: 24 },
    parallelAxis: data.parts.map((part, k) => ({
      dim: k, name: part, scale: true, nameGap: 14, nameTextStyle: { color: t.ink, fontSize: 12 },
      axisLine: { lineStyle: { color: t.muted } }, axisTick: { show: false }, splitNumber: 4,
      axisLabel: { color: t.muted, fontSize: 11, formatter: (v) => v.toFixed(2) },
    })),
    series: [
      line("on the front", others, { color: t.natural, width: 1.5, opacity: 0.9 }),
      ...(data.recommended === null ? [] : [line(data.word, [data.recommended], { color: t.accent, width: 3, opacity: 1 })]),
    ],
  };
}

/** The kinds by name. */
export const KINDS = { search, lines, pairs, rows, calibration, left_out, front, parallel };

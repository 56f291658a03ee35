// What all charts share: axes, the frame with its legend, symbols, and how numbers are written.

const narrow = () => window.innerWidth < 560;

const SHAPES = ["circle", "rect", "triangle", "diamond"];
export const DASHES = ["solid", "dashed", "dotted"];
export const bits = (value) => value.toFixed(4);

export function seconds(value) {
  if (value < 100) return `${+value.toFixed(1)} s`;
  if (value < 6000) return `${+(value / 60).toFixed(1)} min`;
  return `${+(value / 3600).toFixed(1)} h`;
}

export function tokens(value) {
  for (const [scale, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
    if (value >= scale) return `${+(value / scale).toPrecision(3)} ${unit}`;
  }
  return `${value}`;
}

/** A shape of its own for each of eight series: four filled, four hollow. */
export function marker(i, t) {
  return { symbol: SHAPES[i % 4], color: t.hues[i % 8], itemStyle: i % 8 < 4 ? { opacity: 0.85 } : hollow(t.hues[i % 8], t) };
}

export function hollow(color, t) {
  return { color: t.surface, borderColor: color, borderWidth: 2, opacity: 1 };
}

/** What all charts share; `names` are those of the legend, which may need several lines. */
export function base(t, names = []) {
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

export function valueAxis(t, name, extra = {}) {
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

export function categoryAxis(t, names) {
  return {
    type: "category", data: names, inverse: true, axisTick: { show: false },
    axisLine: { lineStyle: { color: t.line } },
    axisLabel: { color: t.ink, fontSize: 12, interval: 0, overflow: "truncate", width: narrow() ? 108 : 130 },
    splitLine: { show: false },
  };
}

export const FORMS = {
  bits: (v) => v.toFixed(4),
  signed: (v) => `${v < 0 ? "\u2212" : v > 0 ? "+" : ""}${Math.abs(v).toFixed(4)}`,
  percent: (v) => `${+(v * 100).toFixed(1)} %`,
  number: (v) => `${+v.toPrecision(3)}`,
};

/** Labels of an axis: as few decimals as its reach needs. */
export function tick(form, reach) {
  if (form === "percent" || form === "number") return FORMS[form];
  const decimals = Math.min(5, Math.max(2, 1 - Math.floor(Math.log10((reach || 1) / 5))));
  return (v) => `${form === "signed" && v > 0 ? "+" : v < 0 ? "\u2212" : ""}${Math.abs(v).toFixed(decimals)}`;
}

/** What a series looks like, small. */
export function key(one, t) {
  const color = t[one.tone];
  const icon = { band: "roundRect", square: "rect", tick: "path://M4,0h2v10h-2z" }[one.look] ?? "circle";
  const itemStyle = {
    band: { color, opacity: 0.35 }, hollow: { ...hollow(color, t), borderWidth: 1.5 },
    square: { ...hollow(color, t), borderWidth: 1.5 },
  }[one.look] ?? { color, opacity: 1 };
  return { name: one.name, icon, itemStyle };
}

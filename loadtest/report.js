// Draws the report's charts into the figures that the page has for them; needs nothing but the page itself.
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const NONE = "\u2013";

  // ---- how values are written (as loadtest/units.py does)
  const grouped = (value, digits = 0) =>
    value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const count = (value) =>
    grouped(value, value && value < 10 && value !== Math.round(value) ? (value < 1 ? 2 : 1) : 0);
  const ms = (value) =>
    value < 1 ? `${(value * 1000).toFixed(0)} µs`
      : value < 1000 ? `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ms`
        : `${(value / 1000).toFixed(2)} s`;
  const size = (value) => {
    for (const unit of ["B", "KiB", "MiB"]) {
      if (value < 1024) return `${value.toFixed(unit === "B" || value >= 100 ? 0 : 1)} ${unit}`;
      value /= 1024;
    }
    return `${value.toFixed(1)} GiB`;
  };
  const WRITTEN = { count, rate: (v) => `${count(v)}/s`, ms, bytes: size, cores: (v) => `${(v * 100).toFixed(0)} %` };
  const plain = (value) => String(Number(value.toPrecision(12)));
  const short = (value) => (value >= 1e6 ? `${plain(value / 1e6)} M` : value >= 1e3 ? `${plain(value / 1e3)} k` : plain(value));
  const TICKS = {
    count: short,
    rate: short,
    ms: (v) => (v === 0 ? "0" : v < 1 ? `${plain(v * 1000)} µs` : v < 1000 ? `${plain(v)} ms` : `${plain(v / 1000)} s`),
    bytes: (v) => (v === 0 ? "0" : size(v).replace(".0 ", " ")),
    cores: (v) => `${plain(v * 100)} %`,
  };
  const clock = (s) => {
    const total = Math.round(s * 10) / 10;
    if (figures.t.at(-1) < 120) return `${plain(total)} s`;
    const minutes = Math.floor(total / 60), rest = String(Math.floor(total % 60)).padStart(2, "0");
    if (figures.t.at(-1) < 7200) return `${minutes}:${rest}`;
    return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")} h`;
  };

  // ---- scales
  const nice = (top, wanted, base = 10) => {
    const raw = top / wanted;
    const power = base ** Math.floor(Math.log(raw) / Math.log(base));
    const steps = base === 10 ? [1, 2, 2.5, 5, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
    return power * steps.find((step) => step * power >= raw * 0.999);
  };
  const linear = (top, unit, wanted) => {
    const whole = unit === "count" ? Math.max(1, nice(top, wanted)) : nice(top, wanted, unit === "bytes" ? 1024 : 10);
    const end = Math.ceil((top * 1.02) / whole) * whole;
    const ticks = [];
    for (let tick = 0; tick <= end * 1.0001; tick += whole) ticks.push(tick);
    return { ticks, at: (value) => value / end };
  };
  const logarithmic = (low, top) => {
    const from = Math.log10(low * 0.8), to = Math.log10(top * 1.25), ticks = [];
    const within = (steps) => {
      ticks.length = 0;
      for (let power = Math.floor(from); power <= to; power += 1)
        ticks.push(...steps.map((step) => step * 10 ** power).filter((tick) => Math.log10(tick) > from && Math.log10(tick) < to));
      return ticks.length;
    };
    if (within([1]) < 3 && within([1, 3]) < 3) within([1, 2, 5]);
    return { ticks, at: (value) => Math.max(0, (Math.log10(Math.max(value, 1e-9)) - from) / (to - from)) };
  };
  const times = (end, wanted) => {
    const steps = [0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];
    const step = steps.find((each) => end / each <= wanted) || 86400;
    const ticks = [];
    for (let tick = 0; tick <= end; tick += step) ticks.push(tick);
    return ticks;
  };

  // ---- drawing
  const make = (parent, name, attributes = {}, text) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const path = (points) => {
    let drawn = "", pen = "M";
    for (const point of points) {
      if (point === null) pen = "M";
      else {
        // A point between two gaps is a dot.
        drawn += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}${pen === "M" ? "h0" : ""}`;
        pen = "L";
      }
    }
    return drawn;
  };
  const area = (points, foot) => {
    let drawn = "", first = null, last = null;
    const end = () => {
      if (first) drawn += `L${last[0].toFixed(1)} ${foot}L${first[0].toFixed(1)} ${foot}Z`;
      first = null;
    };
    for (const point of points) {
      if (point === null) end();
      else {
        drawn += `${first ? "L" : "M"}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
        first = first || point;
        last = point;
      }
    }
    end();
    return drawn;
  };
  const LEFT = 48; // where the scale is written
  const frame = (figure) => {
    const svg = figure.querySelector("svg");
    const width = Math.max(svg.clientWidth, 160), height = figure.classList.contains("wide") ? 240 : width < 420 ? 170 : 190;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.style.height = `${height}px`;
    return { svg, width, height, left: LEFT, top: 16, foot: height - 22, inner: width - LEFT };
  };
  const grid = (box, scale, unit) => {
    const y = (value) => box.foot - scale.at(value) * (box.foot - box.top);
    const rule = (at, kind) => make(box.svg, "line", { class: kind, x1: box.left, x2: box.width, y1: at, y2: at });
    for (const tick of scale.ticks) {
      rule(Math.round(y(tick)) + 0.5, "grid");
      make(box.svg, "text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, TICKS[unit](tick));
    }
    rule(box.foot + 0.5, "foot");
    return y;
  };
  const legend = (figure, series, written) => {
    figure.querySelectorAll(".legend b").forEach((node, index) => {
      node.textContent = written ? written(series[index]) : "";
    });
  };

  // ---- charts over time, with one cross-hair for all
  const overTime = [];
  const drawTime = (figure, chart) => {
    const box = frame(figure), end = figures.t.at(-1);
    const x = (t) => box.left + (t / end) * box.inner;
    const [from, to] = figures.measured;
    for (const [a, b] of [[0, from], [to || end, end]])
      if (b > a) make(box.svg, "rect", { class: "outside", x: x(a), width: x(b) - x(a), y: box.top, height: box.foot - box.top });
    const all = chart.series.flatMap((line) => line.values.filter((value) => value > 0));
    const top = Math.max(...all), low = Math.min(...all);
    const scale = chart.log ? logarithmic(low, top) : linear(top, chart.unit, box.height > 200 ? 4 : 3);
    const y = grid(box, scale, chart.unit);
    for (const t of times(end, Math.max(3, box.inner / 90)))
      make(box.svg, "text", { x: x(t), y: box.height - 5, "text-anchor": x(t) > box.width - 18 ? "end" : "middle" }, clock(t));
    let flagged = -99;
    figures.marks.forEach(([t], index) => {
      const at = Math.round(x(Math.min(t, end))) + 0.5;
      make(box.svg, "line", { class: "mark", x1: at, x2: at, y1: box.top - 2, y2: box.foot });
      if (at - flagged < 15) return;
      flagged = at;
      make(box.svg, "text", { class: "flag", x: Math.min(at, box.width - 4), y: box.top - 6 }, index + 1);
    });
    chart.series.toReversed().forEach((line) => {
      const tone = `var(--${line.tone})`;
      const points = line.values.map((value, index) => (value === null ? null : [x(figures.t[index]), y(value)]));
      if (chart.area) make(box.svg, "path", { class: "area", d: area(points, box.foot), fill: tone });
      make(box.svg, "path", { class: "line", d: path(points), stroke: tone });
    });
    const pointer = make(box.svg, "g", { visibility: "hidden" });
    const cross = make(pointer, "line", { class: "cross", y1: box.top, y2: box.foot });
    const dots = chart.series.map((line) => make(pointer, "circle", { class: "dot", r: 3.5, fill: `var(--${line.tone})` }));
    return (index) => {
      pointer.setAttribute("visibility", index === null ? "hidden" : "visible");
      legend(figure, chart.series, index === null ? null : (line) => (line.values[index] === null ? NONE : WRITTEN[chart.unit](line.values[index])));
      figure.querySelector(".at").textContent = index === null ? "" : clock(figures.t[index]);
      if (index === null) return;
      cross.setAttribute("x1", x(figures.t[index]));
      cross.setAttribute("x2", x(figures.t[index]));
      dots.forEach((dot, number) => {
        const value = chart.series[number].values[index];
        dot.setAttribute("visibility", value === null ? "hidden" : "inherit");
        dot.setAttribute("cx", x(figures.t[index]));
        dot.setAttribute("cy", value === null ? 0 : y(value));
      });
    };
  };
  let pointed = null;
  const point = (index) => {
    pointed = index;
    overTime.forEach((entry) => entry.show(index));
  };
  const nearest = (svg, event) => {
    const bounds = svg.getBoundingClientRect();
    const t = ((event.clientX - bounds.left - LEFT) / (bounds.width - LEFT)) * figures.t.at(-1);
    let best = 0;
    figures.t.forEach((each, index) => {
      if (Math.abs(each - t) < Math.abs(figures.t[best] - t)) best = index;
    });
    return best;
  };
  const listen = (svg) => {
    svg.addEventListener("pointermove", (event) => point(nearest(svg, event)));
    svg.addEventListener("pointerdown", (event) => point(nearest(svg, event)));
    svg.addEventListener("pointerleave", () => point(null));
    svg.addEventListener("blur", () => point(null));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      point(Math.min(Math.max((pointed ?? -1) + step, 0), figures.t.length - 1));
    });
  };

  // ---- the percentiles' curves
  const POINTS = [[0.301, "50 %"], [1, "90 %"], [2, "99 %"], [3, "99.9 %"], [4, "99.99 %"], [5, "99.999 %"], [6, "99.9999 %"]];
  const drawCurves = (figure, curves) => {
    const box = frame(figure), points = curves.flatMap((curve) => curve.points);
    const end = Math.max(...points.map((each) => each[0]), 1.05), from = 0.15;
    const x = (share) => box.left + ((share - from) / (end - from)) * box.inner;
    const scale = logarithmic(Math.min(...points.map((each) => each[1])), Math.max(...points.map((each) => each[1])));
    const y = grid(box, scale, "ms");
    let written = -99;
    for (const [share, label] of POINTS.filter(([share]) => share <= end)) {
      const at = Math.round(x(share)) + 0.5;
      make(box.svg, "line", { class: "mark", x1: at, x2: at, y1: box.top, y2: box.foot });
      if (at - written < 48) continue;
      written = at;
      make(box.svg, "text", { x: at, y: box.height - 5, "text-anchor": at > box.width - 30 ? "end" : "middle" }, label);
    }
    for (const curve of curves.toReversed())
      make(box.svg, "path", { class: "line", stroke: `var(--${curve.tone})`, d: path(curve.points.map(([share, value]) => [x(share), y(value)])) });
  };

  const draw = () => {
    overTime.length = 0;
    document.querySelectorAll("figure[data-chart]").forEach((figure) => {
      const chart = figures.charts[Number(figure.dataset.chart)];
      overTime.push({ show: drawTime(figure, chart) });
    });
    const curves = document.querySelector("figure[data-curves]");
    if (curves) drawCurves(curves, figures.curves);
  };
  draw();
  document.querySelectorAll("figure[data-chart] svg").forEach(listen);
  let width = document.querySelector("main").clientWidth;
  new ResizeObserver(([entry]) => {
    if (entry.target.clientWidth === width) return;
    width = entry.target.clientWidth;
    draw();
  }).observe(document.querySelector("main"));
  document.documentElement.dataset.drawn = "yes";
})();

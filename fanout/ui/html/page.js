"use strict";
// Draw the run from the JSON in this page. Text of the run becomes text nodes and attributes; it is never parsed as
// markup.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const attempts = [page, ...(page.attempts ?? [])].sort((one, other) => one.attempt - other.attempt);
  let run = page;  // the attempt that is shown
  const SVG = "http://www.w3.org/2000/svg";
  const WIDE = 1000;
  const LINES_AT_ONCE = 500;
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes = {}, ...children) {
    const element = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") element.setAttribute("class", value);
      else if (name === "fill" || name === "stroke") element.style[name] = value;
      else if (name === "background" || name === "left") element.style[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  let span = Math.max(run.seconds, 0.001);
  const across = (seconds) => Math.max(0, Math.min(WIDE, (seconds / span) * WIDE));
  const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

  function clock(seconds) {
    const whole = Math.floor(seconds), two = (part) => String(part).padStart(2, "0");
    if (span < 60) return `${seconds.toFixed(1)} s`;
    return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  }

  function size(bytes) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let at = 0;
    while (bytes >= 1000 && at < 4) { bytes /= 1000; at += 1; }
    return `${bytes.toFixed(at && bytes < 100 ? 1 : 0)} ${units[at]}`;
  }

  // ---------------------------------------------------------------------------------------------------- head, verdict

  function head() {
    const end = run.outcome, badge = byId("badge");
    const ok = end.exit_code === 0;
    badge.textContent = !run.ended ? "UNFINISHED" : ok ? "OK" : `EXIT ${end.exit_code}`;
    badge.className = !run.ended ? "open" : ok ? "good" : "bad";
    byId("headline").textContent = `Run ${run.run}: ${run.ended ? end.headline : "the record has no end"}`;
    const bytes = run.streams.reduce((sum, stream) => sum + stream.bytes, 0);
    const facts = {
      "command": run.title,
      "started": new Date(run.began * 1000).toString(),
      "duration": clock(run.seconds),
      "hosts": plural(run.hosts.length, "host"),
      "output": `${plural(run.log.lines_total, "line")}, ${size(bytes)}`,
      "exit status": `${end.exit_code} (${end.origin})`,
      "record": run.directory,
    };
    for (const [name, value] of Object.entries(facts)) byId("facts").append(make("dt", {}, name), make("dd", {}, value));
    byId("report").textContent = run.report;
  }

  // --------------------------------------------------------------------------------------------------------- timeline

  const PARTS = [
    ["connect", "connecting", "connecting", "connected"],
    ["prepare", "check and start", "connected", "started"],
    ["quiet", "started, no output yet", "started", "first"],
    ["run", "running", "first", "exited"],
    ["clean", "cleaning up", "exited", "cleaned_up"],
  ];

  function legend() {
    const entries = PARTS.map(([colour, text]) => [colour, text]);
    entries.push(["down", "connection lost"], ["text", "step (on a rank)"], ["bad", "failed"], ["warn", "stop sent"]);
    for (const [colour, text] of entries) {
      byId("legend").append(make("li", {}, make("span", { class: "swatch", background: `var(--${colour})` }), text));
    }
  }

  function bar(lane, from, to, colour, text, [top, height]) {
    if (from === undefined || from === null || to === undefined || to === null || to < from) return;
    const box = make("svg:rect", {
      x: across(from), y: top, width: Math.max(1, across(to) - across(from)), height, fill: `var(--${colour})`,
    });
    box.append(make("svg:title", {}, text));
    lane.append(box);
  }

  function lane(height, label) {
    return make("svg:svg", {
      class: "lane", viewBox: `0 0 ${WIDE} ${height}`, preserveAspectRatio: "none", height, role: "img", "aria-label": label,
    });
  }

  function firstWord(number) {
    const own = run.streams.filter((stream) => stream.host === number && stream.first !== null);
    return own.length ? Math.min(...own.map((stream) => stream.first)) : undefined;
  }

  function hostLane(host, number) {
    const times = { ...host.times, first: firstWord(number) };
    const end = times.exited ?? times.lost ?? run.seconds;
    const told = Object.entries(times).filter(([, at]) => at !== undefined).map(([name, at]) => `${name} ${clock(at)}`);
    const drawn = lane(18, `${host.name}: ${told.join(", ")}. ${host.verdict || host.phase}. ${host.why}`);
    if (times.started !== undefined && times.first === undefined) times.first = end;
    for (const [colour, text, from, to] of PARTS) {
      if (times[from] === undefined) continue;
      const until = times[to] ?? times.connect_failed ?? times.refused ?? times.released ?? times.lost ?? run.seconds;
      bar(drawn, times[from], until, colour, `${text}: ${clock(times[from])} to ${clock(until)}`, [2, 14]);
    }
    for (const [from, to] of host.down) bar(drawn, from, to ?? run.seconds, "down", `connection lost at ${clock(from)}`, [6, 6]);
    const width = span / WIDE * 3;
    if (times.stop !== undefined) bar(drawn, times.stop, times.stop + width, "warn", `stop sent at ${clock(times.stop)}`, [0, 18]);
    const failed = ["failed", "lost", "unreached", "refused"].includes(host.verdict);
    const when = times.connect_failed ?? times.refused ?? end;
    if (failed) bar(drawn, when - width, when, "bad", `${host.verdict}: ${host.why}`, [0, 18]);
    return drawn;
  }

  function streamRow(stream) {
    const name = stream.name || "train.sh";
    const what = `${name}: ${plural(stream.lines, "line")}, ${plural(stream.errors, "error")}`;
    const drawn = lane(10, stream.first === null ? `${name}: no output` : `${what}, ${clock(stream.first)} to ${clock(stream.last)}`);
    const start = run.hosts[stream.host].times.started;
    if (stream.first !== null) {
      bar(drawn, start, stream.first, "quiet", "no output yet", [3, 4]);
      bar(drawn, stream.first, stream.last, "run", what, [2, 6]);
    }
    for (const [at, step] of stream.steps) {
      const tick = make("svg:rect", { x: across(at), y: 0, width: 1, height: 10, fill: "var(--text)" });
      tick.append(make("svg:title", {}, `step ${step} at ${clock(at)}`));
      drawn.append(tick);
    }
    return make("div", { class: "row rank" }, make("span", { class: "name", title: what }, name), drawn);
  }

  function hostRows(host, number) {
    const order = (stream) => stream.rank ?? -1;
    const streams = run.streams.filter((stream) => stream.host === number);
    streams.sort((a, b) => order(a) - order(b) || a.name.length - b.name.length);  // ranks start their output in any order
    const rank = host.rank === null ? "" : ` (node ${host.rank})`;
    const label = make("button", { type: "button", class: "name", "aria-expanded": "false", title: host.why || host.phase });
    const inside = make("div", { hidden: "" });
    const bad = host.verdict && !["ok", "stopped"].includes(host.verdict);
    const show = (open) => {
      if (open && !inside.firstChild) inside.append(...streams.map(streamRow));
      inside.hidden = !open;
      label.setAttribute("aria-expanded", String(open));
      label.textContent = `${open ? "▾" : "▸"} ${bad ? "✕ " : ""}${host.name}${rank}`;
      if (bad) label.classList.add("bad");
    };
    label.addEventListener("click", () => show(inside.hidden));
    show(run.hosts.length <= 4 || number === run.hosts.findIndex((one) => one.name === run.outcome.first));
    return [make("div", { class: "row" }, label, hostLane(host, number)), inside];
  }

  function axis() {
    const marks = make("div", { class: "axis", "aria-hidden": "true" });
    for (let at = 0; at <= 6; at += 1) marks.append(make("span", { left: `${(at / 6) * 100}%` }, clock((span * at) / 6)));
    return make("div", { class: "row" }, make("span"), marks);
  }

  function timeline() {
    legend();
    byId("rows").append(axis(), ...run.hosts.flatMap(hostRows), axis());
  }

  // ----------------------------------------------------------------------------------------------------------- curves

  const PALETTE = ["#2f81d8", "#d2691e", "#2a9d6f", "#a25ddc", "#c2487e", "#8c7a1f", "#3d9bb3", "#7a8288"];

  function figure(value) {
    return Math.abs(value) >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : Number(value.toPrecision(4)).toString();
  }

  function chart(name, unit, series, [floor, ceiling], band = []) {
    const all = series.flatMap((one) => one.points.map((point) => point[1])).concat(band.flatMap(([, least, , most]) => [least, most]));
    const low = floor ?? all.reduce((least, value) => Math.min(least, value), Infinity);
    const high = ceiling ?? all.reduce((most, value) => Math.max(most, value), -Infinity);
    const up = (value) => 176 - ((value - low) / Math.max(high - low, 1e-12)) * 172;
    const drawn = make("svg:svg", {
      class: "chart", viewBox: `0 0 ${WIDE} 180`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${name} over time, from ${figure(low)} to ${figure(high)} ${unit}`,
    });
    const readout = make("span", {}, `from ${figure(low)} to ${figure(high)} ${unit}`);
    const caption = make("figcaption", {}, make("strong", {}, name), readout);
    if (band.length) {
      const edge = (points) => points.map(([at, value]) => `${across(at).toFixed(1)} ${up(value).toFixed(1)}`).join("L");
      const there = edge(band.map(([at, least]) => [at, least]));
      const back = edge(band.map(([at, , , most]) => [at, most]).reverse());
      drawn.append(make("svg:path", { class: "band", d: `M${there}L${back}Z` }));
      drawn.append(make("svg:path", { class: "middle", d: `M${edge(band.map(([at, , middle]) => [at, middle]))}` }));
    }
    series.forEach((one, number) => {
      const path = one.points.map(([at, value], point) => `${point ? "L" : "M"}${across(at).toFixed(1)} ${up(value).toFixed(1)}`);
      const line = make("svg:path", { d: path.join(""), stroke: PALETTE[number % PALETTE.length] });
      line.append(make("svg:title", {}, one.label));
      drawn.append(line);
      const swatch = make("span", { class: "swatch", background: PALETTE[number % PALETTE.length] });
      if (number < 16) caption.append(make("span", {}, swatch, `${one.label}: ${figure(one.points[one.points.length - 1][1])}`));
    });
    drawn.addEventListener("pointermove", (event) => {
      const box = drawn.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * span;
      const near = (points) => points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
      readout.textContent = `${clock(at)}: ${series.slice(0, 4).map((one) => `${one.label} ${figure(near(one.points)[1])}`).join(", ")} ${unit}`;
    });
    return make("figure", {}, caption, drawn);
  }

  function curves() {
    for (const curve of run.curves) {
      const series = curve.series.map((one) => ({ label: one.who, points: one.points }));
      const drawn = chart(curve.name, curve.unit, series, [], curve.band);
      if (curve.band.length) drawn.firstChild.append(make("span", { class: "rest" }, `band: minimum to maximum of all ${curve.of}`));
      byId("charts").append(drawn);
    }
    if (!run.curves.length) byId("charts").append(make("p", {}, "No log line contains a loss, a speed or a step. Use --metric to define a pattern for metrics."));
    for (const load of run.load) {
      const series = load.series.map((one) => ({ label: run.hosts[one.host].name, points: one.points }));
      byId("loads").append(chart(load.name, load.unit, series, load.unit === "%" ? [0, 100] : [0]));
    }
    if (!run.load.length) byId("loads").append(make("p", {}, "The hosts reported no load."));
  }

  // -------------------------------------------------------------------------------------------------------------- log

  const MARKS = ["", "W", "E"], NAMES = ["", "warning", "error"];
  let shown = LINES_AT_ONCE;

  function choices() {
    run.hosts.forEach((host, number) => byId("by-host").append(make("option", { value: number }, host.name)));
    const ranks = [...new Set(run.streams.map((stream) => stream.rank).filter((rank) => rank !== null))].sort((a, b) => a - b);
    for (const rank of ranks) byId("by-rank").append(make("option", { value: rank }, String(rank)));
  }

  function wanted() {
    const host = byId("by-host").value, rank = byId("by-rank").value;
    const level = Number(byId("by-level").value), text = byId("by-text").value.toLowerCase();
    const fits = run.streams.map((stream) => (host === "" || stream.host === Number(host)) && (rank === "" || stream.rank === Number(rank)));
    const all = host === "" && rank === "";
    const speaks = run.log.speakers.map(([, ranges]) => all || ranges.some(([from, to]) => {
      for (let number = Math.max(0, from); number <= to; number += 1) if (fits[number]) return true;
      return false;
    }));
    const plain = all && level === 0 && text === "";
    return run.log.lines.filter((line) => (line.length === 1 ? plain : speaks[line[1]] && line[2] >= level && (text === "" || line[3].toLowerCase().includes(text))));
  }

  function row(line) {
    if (line.length === 1) return make("li", { class: "gap" }, `… ${plural(line[0], "line")} not in this page …`);
    const [at, speaker, level, text] = line;
    const voices = run.log.speakers[speaker][1].reduce((sum, [from, to]) => sum + to - from + 1, 0);
    return make(
      "li", { class: `l${level}` },
      make("time", {}, clock(at)),
      make("span", { class: "who" }, run.log.speakers[speaker][0]),
      make("abbr", { class: "mark", title: NAMES[level] }, MARKS[level]),
      make("span", { class: "text" }, voices > 1 ? `${text}  ×${voices}` : text),
    );
  }

  function log() {
    const found = wanted(), visible = found.slice(-shown);
    byId("lines").replaceChildren(...visible.map(row));
    byId("earlier").hidden = visible.length === found.length;
    const here = run.log.lines.filter((line) => line.length > 1).length;
    const matching = found.filter((line) => line.length > 1).length;
    byId("shown").textContent = `${plural(visible.filter((line) => line.length > 1).length, "line")} shown of `
      + `${matching.toLocaleString("en")} that match, of ${here.toLocaleString("en")} in this page; the run printed `
      + `${plural(run.log.lines_total, "line")}. All lines: ${run.directory}/${run.log.files}, or fanout logs ${run.run}`;
  }

  function filters() {
    byId("filters").addEventListener("input", () => { shown = LINES_AT_ONCE; log(); });
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("earlier").addEventListener("click", () => { shown += 2 * LINES_AT_ONCE; log(); });
  }

  // --------------------------------------------------------------------------------------------------------- attempts

  function show(attempt) {
    run = attempt;
    span = Math.max(run.seconds, 0.001);
    shown = LINES_AT_ONCE;
    for (const id of ["facts", "legend", "rows", "charts", "loads"]) byId(id).replaceChildren();
    for (const id of ["by-host", "by-rank"]) byId(id).options.length = 1;
    for (const button of byId("attempts").children) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.attempt) === run.attempt));
    }
    head();
    timeline();
    curves();
    choices();
    log();
  }

  function attemptButtons() {
    if (attempts.length < 2) return;
    byId("attempts").hidden = false;
    for (const attempt of attempts) {
      const text = `attempt ${attempt.attempt}: ${attempt.outcome.exit_code === 0 ? "OK" : `exit ${attempt.outcome.exit_code}`}`;
      const button = make("button", { type: "button", "data-attempt": attempt.attempt, title: attempt.outcome.headline }, text);
      button.addEventListener("click", () => show(attempt));
      byId("attempts").append(button);
    }
  }

  attemptButtons();
  filters();
  show(page);
})();

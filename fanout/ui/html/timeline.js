// Timeline: one lane for each host, and one for each of its ranks. The first cause is a line through all of them.
const PARTS = [
  ["connect", "connecting", "connecting", "connected"],
  ["prepare", "check and start", "connected", "started"],
  ["quiet", "started, no output yet", "started", "first"],
  ["run", "running", "first", "exited"],
  ["clean", "cleaning up", "exited", "cleaned_up"],
];
const FAILED = ["failed", "lost", "unreached", "refused"];
const OPEN_HOSTS = 4;  // a run of so few hosts shows all of its ranks
const DENSE_HOSTS = 16;  // more hosts have narrower lanes

const openHosts = new Map();  // name -> whether the user opened or closed it
let usedColors = new Set();

function across(seconds) {
  return toShare(seconds) * WIDE;
}

function drawBar(drawing, from, to, color, text, [top, height]) {
  if (from === undefined || from === null || to === undefined || to === null || to < from) return;
  usedColors.add(color);
  const width = Math.max(1, across(to) - across(from));
  const bar = make("svg:rect", { x: across(from), y: top, width, height, fill: `var(--${color})` });
  bar.append(make("svg:title", {}, text));
  drawing.append(bar);
}

function makeDrawing(height, label) {
  return make("svg:svg", {
    viewBox: `0 0 ${WIDE} ${height}`, preserveAspectRatio: "none", height, role: "img", "aria-label": label,
  });
}

function isFirstRank(stream) {
  const cause = run.cause;
  return Boolean(cause) && cause.rank !== null && stream.host === cause.host && stream.rank === cause.rank;
}

function markFirst(lane) {
  if (run.cause.at === null) return;
  const text = `${run.cause.label} at ${formatClock(run.cause.at)}: ${run.cause.text}`;
  lane.append(make("span", { class: "first", left: toPercent(toShare(run.cause.at)), role: "img", "aria-label": text, title: text }, "✕"));
}

function findFirstOutput(number) {
  const own = run.streams.filter((stream) => stream.host === number && stream.first !== null);
  return own.length ? Math.min(...own.map((stream) => stream.first)) : undefined;
}

function makeHostLane(host, number, height) {
  const times = { ...host.times, first: findFirstOutput(number) };
  const end = times.exited ?? times.lost ?? run.seconds;
  const told = Object.entries(times).filter(([, at]) => at !== undefined).map(([name, at]) => `${name} ${formatClock(at)}`);
  const drawing = makeDrawing(height, `${host.name}: ${told.join(", ")}. ${host.verdict || host.phase}. ${host.why}`);
  if (times.started !== undefined && times.first === undefined) times.first = end;
  for (const [color, text, from, to] of PARTS) {
    if (times[from] === undefined) continue;
    const until = times[to] ?? times.connect_failed ?? times.refused ?? times.released ?? times.lost ?? run.seconds;
    drawBar(drawing, times[from], until, color, `${text}: ${formatClock(times[from])} to ${formatClock(until)}`, [1, height - 2]);
  }
  for (const [from, to] of host.down) {
    drawBar(drawing, from, to ?? run.seconds, "down", `connection lost at ${formatClock(from)}`, [height / 3, height / 3]);
  }
  const width = (span / WIDE) * 3;
  if (times.stop !== undefined) drawBar(drawing, times.stop, times.stop + width, "warn", `stop sent at ${formatClock(times.stop)}`, [0, height]);
  const when = times.connect_failed ?? times.refused ?? end;
  if (FAILED.includes(host.verdict)) drawBar(drawing, when - width, when, "bad", `${host.verdict}: ${host.why}`, [0, height]);
  const lane = make("div", { class: "lane" }, drawing);
  if (run.cause && run.cause.host === number) markFirst(lane);
  return lane;
}

function makeStreamRow(stream) {
  const name = stream.name || "train.sh", first = isFirstRank(stream);
  const what = `${name}: ${formatCount(stream.lines, "line")}, ${formatCount(stream.errors, "error")}`;
  const told = stream.first === null ? `${name}: no output` : `${what}, ${formatClock(stream.first)} to ${formatClock(stream.last)}`;
  const drawing = makeDrawing(10, first ? `${told}. ${run.cause.label}: ${run.cause.text}` : told);
  const lane = make("div", { class: "lane" }, drawing);
  if (stream.first !== null) {
    drawBar(drawing, run.hosts[stream.host].times.started, stream.first, "quiet", "no output yet", [3, 4]);
    drawBar(drawing, stream.first, stream.last, "run", what, [2, 6]);
  }
  for (const [at, step] of stream.steps) {
    const tick = make("svg:rect", { x: across(at), y: 0, width: 1, height: 10, fill: "var(--text)" });
    tick.append(make("svg:title", {}, `step ${step} at ${formatClock(at)}`));
    drawing.append(tick);
  }
  if (first) markFirst(lane);
  const note = first ? [make("span", { class: "note" }, ` · ${run.cause.label}`)] : [];
  const label = make("span", { class: "name", title: what }, first ? `✕ ${name}` : name, ...note);
  return make("div", { class: first ? "row rank bad" : "row rank" }, label, lane);
}

function isFailed(host, number) {
  return FAILED.includes(host.verdict) || Boolean(run.cause && run.cause.host === number);
}

function listHostRows(host, number) {
  const order = (stream) => stream.rank ?? -1;
  const streams = run.streams.filter((stream) => stream.host === number);
  streams.sort((a, b) => order(a) - order(b) || a.name.length - b.name.length);  // ranks start their output in any order
  const first = Boolean(run.cause && run.cause.host === number);
  const note = first ? ` · ${run.cause.label}` : host.rank === null ? "" : ` (node ${host.rank})`;
  const label = make("button", { type: "button", class: "name", title: host.why || host.phase });
  const inside = make("div", { class: "ranks" });
  const bad = host.verdict && !["ok", "stopped"].includes(host.verdict);
  const show = (open) => {
    if (open && !inside.firstChild) inside.append(...streams.map(makeStreamRow));
    inside.hidden = !open;
    label.setAttribute("aria-expanded", String(open));
    label.replaceChildren(`${open ? "▾" : "▸"} ${bad || first ? "✕ " : ""}${host.name}`, make("span", { class: "note" }, note));
  };
  label.addEventListener("click", () => { openHosts.set(host.name, inside.hidden); show(inside.hidden); });
  show(openHosts.get(host.name) ?? (run.hosts.length <= OPEN_HOSTS || first || host.name === run.outcome.first));
  const lane = makeHostLane(host, number, run.hosts.length > DENSE_HOSTS ? 12 : 18);
  return [make("div", { class: bad || first ? "row bad" : "row" }, label, lane), inside];
}

function makeFlag() {
  const share = toShare(run.cause.at), text = `${run.cause.label} ${formatClock(run.cause.at)}`;
  return make("div", { class: "row flag" }, make("span"), make("div", { class: "axis" },
    make("span", { left: toPercent(share), class: share > 0.7 ? "end" : share < 0.1 ? "start" : "middle" }, text)));
}

function makeMarks() {
  const marks = make("div", { class: "marks", "aria-hidden": "true" }, make("div", { class: "cursor" }));
  if (run.cause && run.cause.at !== null) marks.append(make("div", { class: "cause", left: toPercent(toShare(run.cause.at)) }));
  return marks;
}

function showLegend() {
  const entries = [...PARTS.map(([color, text]) => [color, text]), ["down", "connection lost"], ["warn", "stop sent"], ["bad", "failed"]];
  const used = entries.filter(([color]) => usedColors.has(color));
  if (run.streams.some((stream) => stream.steps.length)) used.push(["text", "step (on a rank)"]);
  byId("legend").replaceChildren(...used.map(([color, text]) => make("li", {}, makeSwatch(color), text)));
}

function showTimeline() {
  usedColors = new Set();
  const failed = run.hosts.filter(isFailed).length;
  byId("only-failed-label").hidden = failed === 0 || failed === run.hosts.length || run.hosts.length <= OPEN_HOSTS;
  const only = byId("only-failed").checked && !byId("only-failed-label").hidden;
  const rows = run.hosts.flatMap((host, number) => (only && !isFailed(host, number) ? [] : listHostRows(host, number)));
  const most = isNarrow() ? 4 : 10;
  const axes = [0, 1].map(() => make("div", { class: "row" }, make("span"), makeTimeAxis(most)));
  const flag = run.cause && run.cause.at !== null ? [makeFlag()] : [];
  byId("rows").replaceChildren(...flag, axes[0], make("div", { id: "lanes" }, ...rows, makeMarks()), axes[1]);
  byId("rows").classList.toggle("dense", run.hosts.length > DENSE_HOSTS);
  showLegend();
}

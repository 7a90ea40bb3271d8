// Reload: the page of an active run loads itself again. What the user sees and has chosen stays.
const STALE_SECONDS = 60;  // without a new page for so long, its writer may have been killed
const FIELDS = ["by-host", "by-rank", "by-level", "by-text"];
const BOTTOM = 40;  // pixels: a reader at the end of the page stays there
let chosenAttempt = null;  // the attempt that the user chose, null for the newest
let paused = false;
let loadedAt = Date.now();

function isAtBottom() {
  return scrollY > 0 && innerHeight + scrollY >= document.documentElement.scrollHeight - BOTTOM;
}

function describeFocus() {
  const focused = document.activeElement;
  if (!focused || focused === document.body) return null;
  const order = [...document.querySelectorAll("button, input, select, a, [tabindex]")].indexOf(focused);
  const isText = focused.id === "by-text";
  return { order, caret: isText ? [focused.selectionStart, focused.selectionEnd] : null };
}

function saveState() {
  const state = {
    scroll: scrollY, bottom: isAtBottom(), attempt: chosenAttempt, paused, lines: linesShown, cursor,
    fields: FIELDS.map((id) => byId(id).value), onlyFailed: byId("only-failed").checked,
    hosts: [...openHosts], focus: describeFocus(), report: byId("report").scrollTop,
  };
  try { history.replaceState(state, ""); } catch { /* a browser may refuse it for a local file: then the view begins at the top */ }
}

// Restore what must be known before the page is drawn.
function restoreChoices() {
  const state = history.state;
  if (!state) return;
  chosenAttempt = state.attempt;
  paused = state.paused;
  linesShown = state.lines;
  byId("only-failed").checked = state.onlyFailed;
  for (const [name, open] of state.hosts) openHosts.set(name, open);
}

function restoreFilters() {
  const state = history.state;
  if (!state) return;
  FIELDS.forEach((id, number) => { byId(id).value = state.fields[number]; });
  for (const id of FIELDS) if (byId(id).selectedIndex < 0) byId(id).value = "";
}

function restoreView() {
  const state = history.state;
  if (!state) return;
  history.scrollRestoration = "manual";
  byId("report").scrollTop = state.report;
  if (state.focus) {
    const focused = [...document.querySelectorAll("button, input, select, a, [tabindex]")][state.focus.order];
    focused?.focus({ preventScroll: true });
    if (state.focus.caret && focused?.setSelectionRange) focused.setSelectionRange(...state.focus.caret);
  }
  if (state.cursor !== null) setCursor(state.cursor);
  scrollTo(0, state.bottom ? document.documentElement.scrollHeight : state.scroll);
}

function isBusy() {
  return document.hidden || document.activeElement?.tagName === "SELECT" || getSelection()?.type === "Range";
}

function formatAge(seconds) {
  if (seconds < 2) return "just now";
  return seconds < 120 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}

function showUpdates() {
  const age = Math.max(0, Date.now() / 1000 - page.live.written), stale = age > STALE_SECONDS + 3 * page.live.every;
  byId("updates").hidden = false;
  byId("updates").className = stale ? "stale" : "";
  byId("pause").hidden = page.live.every === 0;
  byId("pause").textContent = paused ? "Resume updates" : "Pause updates";
  if (page.live.every === 0) byId("age").textContent = `not updated since ${formatDate(page.live.written)}`;
  else byId("age").textContent = `updated ${formatAge(age)}${stale ? ": is fanout report --follow still active?" : ""}`;
  const wait = stale ? STALE_SECONDS : page.live.every;
  if (page.live.every && !paused && !isBusy() && Date.now() - loadedAt >= 1000 * wait) {
    saveState();
    location.reload();
  }
}

function setUpReload() {
  addEventListener("pagehide", saveState);
  if (!page.live) return;
  byId("pause").addEventListener("click", () => { paused = !paused; showUpdates(); });
  showUpdates();
  if (page.live.every) setInterval(showUpdates, 1000);
}

// Start: show the newest attempt, or the one that the user chose.
function showAttempt(attempt) {
  run = attempt;
  span = Math.max(run.seconds, 0.001);
  for (const button of byId("attempts").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.attempt) === run.attempt));
  }
  setCursor(null);
  showHead();
  showTimeline();
  showCharts();
  fillChoices();
}

function makeAttemptButtons() {
  if (attempts.length < 2) return;
  byId("attempts").hidden = false;
  for (const attempt of attempts) {
    const text = `attempt ${attempt.attempt}: ${attempt.summary.badge.toLowerCase()}`;
    const button = make("button", { type: "button", "data-attempt": attempt.attempt, title: attempt.summary.headline }, text);
    button.addEventListener("click", () => {
      chosenAttempt = attempt === page.attempts[0] ? null : attempt.attempt;
      linesShown = LINES_AT_ONCE;
      showAttempt(attempt);
      showLog();
    });
    byId("attempts").append(button);
  }
}

restoreChoices();
makeAttemptButtons();
setUpFilters();
followPointer(byId("rows"), () => document.querySelector(".marks"));
byId("only-failed").addEventListener("change", showTimeline);
showAttempt(attempts.find((attempt) => attempt.attempt === chosenAttempt) ?? page.attempts[0]);
restoreFilters();
showLog();
restoreView();
setUpReload();

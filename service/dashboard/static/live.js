// Keeps a page up to date: on news (server-sent events, or a clock where there are none) the page
// is fetched again and what has changed is put in place. All markup comes from the server.

import { drawAll } from "./charts.js";

const QUIET_MS = 1500; // at least so long between two refreshes
const POLL_MS = 5000;
const ANNOUNCE_MS = 15000;

const EVENTS = [
  ...["accepted", "running", "pausing", "paused", "resumed", "cancelling", "cancelled", "succeeded", "failed", "phase", "diagnosed"].map((e) => `job.${e}`),
  ...["proposed", "leased", "started", "succeeded", "failed", "lost", "cancelled"].map((e) => `run.${e}`),
];

const main = document.querySelector("main");
let busy = false;
let again = false;
let timer = 0;
let announced = -ANNOUNCE_MS;

/** Refresh soon; many calls in a row are one refresh. */
function refreshSoon(delay = QUIET_MS) {
  if (busy) again = true;
  else if (!timer) timer = setTimeout(refresh, delay);
}

async function refresh() {
  timer = 0;
  busy = true;
  const begun = performance.now();
  try {
    const response = await fetch(main.dataset.refresh ?? location.href, { headers: { Accept: "text/html" } });
    if (response.ok) update(new DOMParser().parseFromString(await response.text(), "text/html"));
  } catch {
    // The server is away for a moment; the next event or tick tries again.
  }
  busy = false;
  if (again) {
    again = false;
    // A slow page is asked for less often.
    refreshSoon(Math.max(QUIET_MS, 5 * (performance.now() - begun)));
  }
}

/** Put what has changed in place; if the page has other parts than before, all of it. */
function update(next) {
  const ids = (root) => [...root.querySelectorAll("main [data-live]")].map((e) => e.id).join(" ");
  const focused = document.activeElement?.id;
  const goesOn = "refresh" in next.querySelector("main").dataset;
  let redraw = false;
  if (ids(document) === ids(next)) {
    for (const fresh of next.querySelectorAll("main [data-live]")) {
      const old = document.getElementById(fresh.id);
      if (old.outerHTML === fresh.outerHTML) continue;
      redraw ||= fresh.tagName === "SCRIPT";
      old.replaceWith(document.adoptNode(fresh));
    }
  } else {
    main.replaceChildren(...document.adoptNode(next.querySelector("main")).childNodes);
    redraw = true;
  }
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus();
  if (redraw) drawAll(document);
  announce();
  if (!goesOn) stop();
}

/** Tell screen readers how it goes, now and then. */
function announce() {
  const text = document.querySelector("[data-announce]")?.dataset.announce;
  const line = document.getElementById("announcer");
  if (!text || text === line.textContent || performance.now() - announced < ANNOUNCE_MS) return;
  announced = performance.now();
  line.textContent = text;
}

let source = null;
let clock = 0;

function stop() {
  source?.close();
  clearInterval(clock);
  delete main.dataset.refresh;
}

function poll() {
  if (!clock) clock = setInterval(() => document.hidden || refreshSoon(0), POLL_MS);
}

function listen() {
  if (!main.dataset.refresh) return;
  if (!main.dataset.events || !window.EventSource) {
    poll();
    return;
  }
  source = new EventSource(main.dataset.events);
  for (const name of EVENTS) source.addEventListener(name, () => refreshSoon());
  source.addEventListener("message", () => refreshSoon());
  source.addEventListener("error", () => {
    // It reconnects by itself; where streams are blocked for good, ask by the clock.
    if (source.readyState === EventSource.CLOSED) poll();
  });
  // Progress within a run is no event.
  clock = setInterval(() => document.hidden || refreshSoon(0), 2 * POLL_MS);
}

/** Buttons that act on the job. */
async function act(button) {
  const problem = document.getElementById("action-error");
  problem.textContent = "";
  if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
  button.disabled = true;
  try {
    const response = await fetch(button.dataset.action, {
      method: "POST",
      headers: { Accept: "application/json", "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()}` },
    });
    if (!response.ok) problem.textContent = (await response.json()).detail ?? response.statusText;
  } catch {
    problem.textContent = "The server does not answer. Try again in a moment.";
  }
  button.disabled = false;
  refreshSoon(0);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button[data-action]");
  if (button) act(button);
});

drawAll(document);
listen();

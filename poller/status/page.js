// Fetches this page again every few seconds and applies the differences. Only the
// program renders the page; the script knows nothing of its content.
"use strict";

const interval = 3000, timeout = 5000;
const chosen = new Set(); // cards that the reader has folded or unfolded stay so
let answered = new Date();

const pad = n => String(n).padStart(2, "0");

// clock is a time in the reader's time zone, with the date if it is not today.
function clock(t) {
  const time = [t.getHours(), t.getMinutes(), t.getSeconds()].map(pad).join(":");
  if (t.toDateString() === new Date().toDateString()) return time;
  return t.toLocaleDateString("en", { day: "numeric", month: "short" }) + " " + time;
}

function localise(root) {
  for (const t of root.querySelectorAll("time[data-clock]")) t.textContent = clock(new Date(t.dateTime));
}

function same(a, b) { return a.nodeName === b.nodeName && (a.id || "") === (b.id || ""); }

// become makes the node a like b and keeps everything that is equal, so that
// focus, selection and the place of a screen reader stay. Elements with an id
// are moved, not replaced.
function become(a, b) {
  if (a.nodeType === Node.TEXT_NODE) {
    if (a.data !== b.data) a.data = b.data;
    return;
  }
  for (const { name } of [...a.attributes]) {
    if (!b.hasAttribute(name) && !kept(a, name)) a.removeAttribute(name);
  }
  for (const { name, value } of b.attributes) {
    if (a.getAttribute(name) !== value && !kept(a, name)) a.setAttribute(name, value);
  }
  let at = a.firstChild;
  for (const want of [...b.childNodes]) {
    let have = want.id ? document.getElementById(want.id) : at;
    if (!have || !same(have, want)) have = document.importNode(want, false);
    if (have !== at) a.insertBefore(have, at);
    become(have, want);
    at = have.nextSibling;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function kept(e, name) { return name === "open" && chosen.has(e.parentElement.id); }

function say(text) {
  const lost = document.getElementById("lost");
  if (lost.textContent !== text) lost.textContent = text;
}

// ask returns the current page, or null if there is no answer or it is not the
// page.
async function ask() {
  try {
    const answer = await fetch("./", { cache: "no-store", signal: AbortSignal.timeout(timeout) });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    return next.documentElement.dataset.build ? next : null;
  } catch {
    return null;
  }
}

function show(next) {
  const page = next.getElementById("page"), focused = document.activeElement;
  localise(page);
  become(document.getElementById("page"), page);
  if (focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
  document.title = next.title;
  become(document.querySelector("link[rel=icon]"), next.querySelector("link[rel=icon]"));
}

async function refresh() {
  const next = await ask();
  setTimeout(refresh, interval);
  if (!next) {
    say("No answer since " + clock(answered) + ". The page shows the state at that time.");
    document.title = "? No answer since " + clock(answered);
  } else if (next.documentElement.dataset.build !== document.documentElement.dataset.build) {
    location.reload(); // the program was updated
  } else {
    answered = new Date();
    show(next);
    say("");
  }
}

document.addEventListener("click", e => {
  const summary = e.target.closest("summary");
  if (summary) chosen.add(summary.closest("article").id);
});
localise(document);
setTimeout(refresh, interval);

// Asks the program for this page again every few seconds, and changes what has
// changed. There is one place where the page is made, and that is the program.
"use strict";

const every = 3000, patience = 5000;
const chosen = new Set(); // what the reader has unfolded or folded stays so
let answered = new Date();

const zeros = n => String(n).padStart(2, "0");

// clock is a time in the reader's time zone, with the date if it is not today.
function clock(t) {
  const time = [t.getHours(), t.getMinutes(), t.getSeconds()].map(zeros).join(":");
  if (t.toDateString() === new Date().toDateString()) return time;
  return t.toLocaleDateString("en", { day: "numeric", month: "short" }) + " " + time;
}

function localise(root) {
  for (const t of root.querySelectorAll("time[data-clock]")) t.textContent = clock(new Date(t.dateTime));
}

function same(a, b) { return a.nodeName === b.nodeName && (a.id || "") === (b.id || ""); }

// become makes the element a like b and keeps all that is alike, so that focus,
// selection and what a screen reader has read stay.
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
    let have = at;
    if (want.id) {
      have = [...a.children].find(e => e.id === want.id);
      if (have && have !== at) a.insertBefore(have, at);
    }
    if (have && same(have, want)) {
      at = have.nextSibling;
      become(have, want);
    } else {
      a.insertBefore(document.importNode(want, true), at);
    }
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

// ask returns the page as it is now, or nothing if there is no answer or one that
// is not the page.
async function ask() {
  try {
    const answer = await fetch("./", { cache: "no-store", signal: AbortSignal.timeout(patience) });
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
  setTimeout(refresh, every);
  if (!next) {
    say("No answer since " + clock(answered) + ". What is shown is from then.");
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
setTimeout(refresh, every);

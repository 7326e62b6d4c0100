"use strict";
// One page for both ways of rating: "server" sends each answer and waits until it is kept; "file" keeps them in this
// browser and saves them as a file. Texts from outside are set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const stage = document.getElementById("stage");
const pair = data.kind === "gsb";
const SIDES = [[1, "A is better"], [0, "Same"], [-1, "B is better"]];
let rater = data.rater, tasks = [], answers = {}, at = 0, values = {}, now = 0, shownAt = 0, sending = false;

function make(tag, facts, ...inside) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(facts || {})) {
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name in node && name !== "role") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...inside);
  return node;
}

function show(...nodes) { stage.replaceChildren(...nodes); }

function say(text) { const place = document.getElementById("says"); if (place) place.textContent = text; }

// --- where answers are kept -----------------------------------------------------------------------------------------

const KEY = () => "reelwright-rating/" + data.study_id + "/" + rater;

async function load() {
  if (data.mode === "file") {
    let kept = {};
    try { kept = JSON.parse(localStorage.getItem(KEY()) || "{}"); } catch (error) { kept = {}; }
    return { tasks: data.tasks[rater], answers: kept };
  }
  const reply = await fetch("study?rater=" + encodeURIComponent(rater), { credentials: "same-origin" });
  if (!reply.ok) throw new Error((await reply.json()).error);
  return reply.json();
}

async function keep(answer) {
  if (data.mode === "file") {
    answers[answer.task_id] = answer;
    // Some browsers keep nothing for a page opened from a disk; then the file that is saved at the end is all there is.
    try { localStorage.setItem(KEY(), JSON.stringify(answers)); } catch (error) { /* the file remains */ }
    return;
  }
  const reply = await fetch("answer", {
    method: "POST", credentials: "same-origin", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ rater, answer }),
  });
  if (!reply.ok) throw new Error((await reply.json()).error);
  answers[answer.task_id] = answer;
}

function saveFile() {
  const text = JSON.stringify({ study_id: data.study_id, rater, answers: Object.values(answers) }, null, 1);
  const link = make("a", {
    href: URL.createObjectURL(new Blob([text], { type: "application/json" })),
    download: "ratings-" + data.study_id + "-" + rater.replace(/[^\p{L}\p{N}_-]/gu, "_") + ".json",
  });
  document.body.append(link);
  link.click();
  link.remove();
}

// --- screens --------------------------------------------------------------------------------------------------------

function chooseRater() {
  const names = data.raters.map((name) => make("button", { type: "button", on: { click: () => begin(name) } },
    make("bdi", {}, name)));
  show(make("h1", {}, "Who are you?"), make("div", { className: "names" }, ...names));
  names[0].focus();
}

async function begin(name) {
  rater = name;
  try {
    const found = await load();
    tasks = found.tasks;
    answers = found.answers;
  } catch (error) {
    show(make("h1", {}, "This does not work yet"), make("p", { className: "calm" }, String(error.message || error)));
    return;
  }
  document.getElementById("who").textContent = rater;
  document.getElementById("save").hidden = data.mode !== "file";
  at = nextOpen(-1);
  ask();
}

function nextOpen(from) {
  for (let i = from + 1; i < tasks.length; i++) if (!answers[tasks[i].task_id]) return i;
  for (let i = 0; i <= from && i < tasks.length; i++) if (!answers[tasks[i].task_id]) return i;
  return tasks.length;
}

function count() {
  const given = tasks.filter((task) => answers[task.task_id]).length;
  document.getElementById("count").textContent = given + " of " + tasks.length;
  document.getElementById("bar").style.width = (tasks.length ? (100 * given) / tasks.length : 0) + "%";
  const bar = document.querySelector(".done");
  bar.setAttribute("aria-valuemax", tasks.length);
  bar.setAttribute("aria-valuenow", given);
}

function player(url, name) {
  const video = make("video", { src: url, loop: true, muted: true, autoplay: true, controls: true, playsInline: true, preload: "auto" });
  const box = make("figure", { className: "seen" }, video);
  if (name) box.append(make("b", {}, name));
  // On a phone, upright videos of a pair stand beside one another and wide ones above one another.
  video.addEventListener("loadedmetadata", () => box.parentNode && box.parentNode.classList.toggle("upright", video.videoHeight > video.videoWidth));
  video.addEventListener("error", () => box.append(make("p", {}, "This video does not play here. Skip it and tell whoever sent you.")));
  return box;
}

// What is asked about the video now: the picture's dimension only where one was given.
function asked() { return data.dimensions.filter((one) => tasks[at].dimensions.includes(one.name)); }

function ask() {
  count();
  if (at >= tasks.length) return finish();
  const task = tasks[at], before = answers[task.task_id];
  values = before ? { ...before.values } : {};
  now = 0;
  shownAt = performance.now();
  const videos = task.videos.map((name, i) => player(data.urls ? data.urls[name] : name, pair ? "AB"[i] : ""));
  const prompt = task.prompt
    ? make("p", { className: "prompt" }, make("bdi", {}, task.prompt))
    : make("p", { className: "prompt none" }, "No text was given.");
  const keys = make("p", { className: "keys" });
  const hints = pair
    ? [["←", "A"], ["↓", "same"], ["→", "B"], ["Space", "play"], ["Enter", "next"], ["Backspace", "back"]]
    : [["1", ""], ["–", ""], ["5", "rate"], ["↑", ""], ["↓", "question"], ["Space", "play"], ["Enter", "next"], ["Backspace", "back"]];
  for (const [key, means] of hints) keys.append(key === "–" ? "– " : make("kbd", {}, key), means ? " " + means + "   " : " ");
  const given = [];
  if (task.picture && (!data.urls || data.urls[task.picture])) {
    const picture = make("img", { src: data.urls ? data.urls[task.picture] : task.picture, alt: "The picture that was given" });
    const box = make("figure", { className: "given" }, picture, make("figcaption", {}, "The picture that was given"));
    picture.addEventListener("error", () => box.remove());
    given.push(box);
  }
  show(prompt, ...(pair ? given : []),
    make("div", { className: pair ? "" : "beside" },
      make("div", { className: "videos" + (pair ? " two" : "") }, ...(pair ? [] : given), ...videos),
      make("div", { className: "asks" }, ...asked().map(question))),
    make("div", { className: "buttons" }, keys,
      make("button", { type: "button", className: "quiet", id: "back", on: { click: back } }, "Back"),
      make("button", { type: "button", className: "quiet", id: "skip", on: { click: skip } }, "Skip"),
      make("button", { type: "button", className: "main", id: "next", on: { click: next } }, "Next")),
    make("p", { className: "says", id: "says", role: "alert" }));
  document.getElementById("back").disabled = at === 0;
  mark();
}

function question(dimension, index) {
  const choices = pair ? SIDES : dimension.levels.map((level, i) => [i + 1, level]);
  const buttons = choices.map(([value, label]) => {
    const inside = pair ? [make("b", {}, label)] : [make("b", {}, String(value)), make("span", {}, label)];
    return make("button", { type: "button", role: "radio", "data-value": value, "aria-label": pair ? label : value + ": " + label,
      on: { click: () => { now = index; choose(value); } } }, ...inside);
  });
  const id = "ask" + index;
  return make("fieldset", { className: "ask", "data-index": index, on: { focusin: () => { now = index; mark(); } } },
    make("legend", { id }, dimension.title, make("small", {}, dimension.question)),
    make("div", { className: "choices" + (pair ? " three" : ""), role: "radiogroup", "aria-labelledby": id }, ...buttons));
}

function mark() {
  document.querySelectorAll(".ask").forEach((box, i) => {
    box.classList.toggle("now", i === now && asked().length > 1);
    for (const button of box.querySelectorAll("button")) {
      button.setAttribute("aria-checked", String(values[asked()[i].name] === Number(button.dataset.value)));
    }
  });
  document.getElementById("next").disabled = sending || asked().some((one) => !(one.name in values));
}

function choose(value) {
  values[asked()[now].name] = value;
  const open = asked().findIndex((one) => !(one.name in values));
  if (open >= 0) now = open;
  mark();
}

async function next() {
  if (sending || at >= tasks.length || asked().some((one) => !(one.name in values))) return;
  const task = tasks[at];
  const answer = { task_id: task.task_id, values, seconds: Math.min(86400, Math.round(performance.now() - shownAt) / 1000) };
  sending = true;
  mark();
  try {
    await keep(answer);
  } catch (error) {
    say("Not saved: " + (error.message || error) + ". Try again.");
    return;
  } finally {
    sending = false;
    if (document.getElementById("next")) mark();
  }
  at = nextOpen(at);
  if (at >= tasks.length && data.mode === "server") {
    try { tasks = (await load()).tasks; at = nextOpen(-1); } catch (error) { /* shown as finished; a reload asks again */ }
  }
  window.scrollTo(0, 0);
  ask();
}

function back() { if (at > 0 && !sending) { at -= 1; ask(); } }

function skip() {
  if (sending) return;
  let i = at;
  do { i = (i + 1) % tasks.length; } while (i !== at && answers[tasks[i].task_id]);
  at = i;
  ask();
}

function finish() {
  const file = data.mode === "file";
  const nodes = [make("h1", {}, "Thank you"),
    make("p", { className: "calm" }, file
      ? "You have answered everything. Save the file and send it back."
      : "You have answered everything, and all of it is saved. Where others disagree, a few more may appear here: reload this page later.")];
  if (file) nodes.push(make("button", { type: "button", className: "main", on: { click: saveFile } }, "Save answers"));
  nodes.push(make("p", {}, make("button", { type: "button", className: "quiet", on: { click: back } }, "Back to the last one")));
  show(...nodes);
}

// --- keys -----------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !document.getElementById("next")) return;
  const key = event.key, onButton = event.target.closest && event.target.closest("button"), inVideo = event.target.tagName === "VIDEO";
  const act = () => event.preventDefault();
  if (pair && !inVideo && ["ArrowLeft", "ArrowDown", "ArrowRight"].includes(key)) {
    act(); choose({ ArrowLeft: 1, ArrowDown: 0, ArrowRight: -1 }[key]);
  } else if (!pair && /^[1-5]$/.test(key)) { act(); choose(Number(key));
  } else if (pair && /^[1-3]$/.test(key)) { act(); choose(SIDES[Number(key) - 1][0]);
  } else if (!pair && !inVideo && (key === "ArrowUp" || key === "ArrowDown")) {
    act(); now = Math.max(0, Math.min(asked().length - 1, now + (key === "ArrowUp" ? -1 : 1))); mark();
  } else if (key === "Enter" && (!onButton || !document.getElementById("next").disabled)) {
    if (onButton && ["back", "skip", "save"].includes(onButton.id)) return;
    act(); next();
  } else if (key === "Backspace") { act(); back();
  } else if (key === " " && !onButton && !inVideo) {
    act();
    const all = [...document.querySelectorAll("video")], paused = all.every((video) => video.paused);
    for (const video of all) if (paused) video.play(); else video.pause();
  }
});

document.getElementById("save").addEventListener("click", saveFile);
if (rater) begin(rater); else chooseRater();

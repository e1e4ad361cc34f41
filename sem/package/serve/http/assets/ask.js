"use strict";
const at = (id) => document.getElementById(id);
const percent = (share) => (share === null ? "not known" : `${Math.round(share * 100)} %`);
const GROUNDED = new Map([[true, "yes"], [false, "no"], [null, "not asked"]]);
let isRunning = false;

function headers() {
  const key = at("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

function showFault(text) {
  at("fault").textContent = text;
  at("fault").hidden = !text;
}

/* The JSON of a reply; an error with the server's own words where it is a refusal. */
async function readReply(reply) {
  let body = {};
  try { body = await reply.json(); } catch { /* no JSON: the status says it */ }
  if (reply.ok) return body;
  if (reply.status === 401) { at("locked").hidden = false; at("key").focus(); }
  const words = body.detail || `The server answered ${reply.status}.`;
  throw new Error(body.reason ? `${words} [${body.reason}]` : words);
}

/* What to tell a person: fetch names no cause when nobody answers. */
const wordsOf = (error) => (error instanceof TypeError ? "The server cannot be reached." : error.message);

async function loadTasks() {
  const list = await readReply(await fetch("/v1/models", { headers: headers() }));
  at("task").replaceChildren(...list.data.map(({ id }) => new Option(id, id)));
}

/* The cleaned page, with each value that stands in it marked where it stands first. */
function drawPage(text, slots) {
  const places = [];
  for (const { value, grounded } of Object.values(slots)) {
    const word = String(value), start = grounded ? text.indexOf(word) : -1;
    if (start >= 0) places.push([start, start + word.length]);
  }
  places.sort((a, b) => a[0] - b[0]);
  const nodes = [];
  let end = 0;
  for (const [start, stop] of places) {
    if (start < end) continue;
    nodes.push(text.slice(end, start), Object.assign(document.createElement("mark"), { textContent: text.slice(start, stop) }));
    end = stop;
  }
  at("text").replaceChildren(...nodes, text.slice(end));
}

function drawSlots(slots) {
  const rows = Object.entries(slots).map(([name, { value, confidence, grounded }]) => {
    const row = document.createElement("tr");
    const texts = [name, JSON.stringify(value), percent(confidence), GROUNDED.get(grounded)];
    row.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  });
  at("slots").replaceChildren(...rows);
}

function draw(answer) {
  at("value").textContent = JSON.stringify(answer.value, null, 2);
  at("summary").textContent = `Least sure slot: ${percent(answer.confidence)}. `
    + `${answer.tokens_in} tokens read, ${answer.tokens_out} written, ${answer.seconds} s.`
    + (answer.finish === "closed" ? " The answer was made to end for want of room." : "");
  drawSlots(answer.slots);
  drawPage(answer.page, answer.slots);
  at("result").hidden = false;
  at("answer").focus();
}

async function ask(event) {
  event.preventDefault();
  if (isRunning) return;
  isRunning = true;
  showFault("");
  at("go").disabled = true; at("result").hidden = true; at("state").textContent = "Asking…";
  try {
    if (!at("task").value) await loadTasks();
    const url = at("url").value.trim();
    const body = { html: at("page").value, task: at("task").value, show_page: true, ...(url ? { url } : {}) };
    const reply = await fetch("/v1/extract", { method: "POST", headers: headers(), body: JSON.stringify(body) });
    draw(await readReply(reply));
    at("locked").hidden = true; at("state").textContent = "Answered.";
  } catch (error) { at("state").textContent = ""; showFault(wordsOf(error)); }
  isRunning = false;
  at("go").disabled = false;
}

async function look() {
  try {
    const state = await (await fetch("/ready")).json();
    if (!isRunning) at("state").textContent = state.ready
      ? `Ready: ${state.package}, answered by ${state.engine}.` : `Not ready: ${state.fault}.`;
    if (!state.ready) setTimeout(look, 2000);
  } catch { at("state").textContent = "The server cannot be reached."; setTimeout(look, 5000); }
}

at("ask").addEventListener("submit", ask);
at("key").addEventListener("change", () => loadTasks().catch((error) => showFault(wordsOf(error))));
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === at("page")) at("ask").requestSubmit();
});
loadTasks().catch((error) => showFault(wordsOf(error)));
look();

"use strict";
const at = (id) => document.getElementById(id);
const shown = { prompt: "", text: "", sure: 0 };
let running = null;

function headers() {
  const key = at("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function refused(reply) {
  let detail = `The server answered ${reply.status}.`;
  try { const said = await reply.json(); detail = (said.detail || detail) + (said.cure ? `: ${said.cure}.` : ""); } catch { /* no JSON: the status says it */ }
  if (reply.status === 401) { at("locked").hidden = false; at("key").focus(); }
  return new Error(detail);
}

function fault(text) {
  at("fault").textContent = text;
  at("fault").hidden = !text;
}

/* The words of a text with the space after each, so that they join to it again. */
const words = (text) => text.match(/\s+|[^\s]+\s*/g) || [];

/* Longest common subsequence of words: [kind, text] with kind same, added or gone. */
function difference(before, after) {
  const a = words(before), b = words(after), same = (x, y) => x.trim() === y.trim() && x.trim() !== "";
  const best = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      best[i][j] = same(a[i], b[j]) ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
  const found = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && same(a[i], b[j])) { found.push(["same", b[j]]); i++; j++; }
    else if (j < b.length && (i === a.length || best[i][j + 1] >= best[i + 1][j])) found.push(["added", b[j++]]);
    else found.push(["gone", a[i++]]);
  }
  return found;
}

/* Neighbours of one kind as one piece: a screen reader says "insertion" once for each. */
function pieces(found) {
  const made = [];
  for (const [kind, text] of found) {
    if (made.length && made[made.length - 1][0] === kind) made[made.length - 1][1] += text;
    else made.push([kind, text]);
  }
  return made;
}

function draw() {
  const found = difference(shown.prompt, shown.text), place = at("text");
  place.replaceChildren();
  if (!at("marked").checked) { place.textContent = shown.text; return found; }
  for (const [kind, text] of pieces(found)) {
    const node = kind === "same" ? document.createTextNode(text)
      : Object.assign(document.createElement(kind === "added" ? "ins" : "del"), { textContent: text });
    place.append(node);
  }
  return found;
}

function finish() {
  const found = draw(), count = (kind) => found.filter(([k, t]) => k === kind && t.trim()).length;
  const sure = `Confidence ${Math.round(shown.sure * 100)} %`;
  at("summary").textContent = `${sure}${shown.sure > 0.5 ? "" : ": better keep your own"}. `
    + `${count("added")} words added, ${count("gone")} removed.`;
  at("edited").value = shown.text;
  at("rewritten").focus();
}

async function* events(reply) {
  const decoder = new TextDecoder();
  let rest = "";
  for (let reader = reply.body.getReader(), part; !(part = await reader.read()).done;) {
    rest += decoder.decode(part.value, { stream: true });
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const [name, data] = rest.slice(0, end).split("\n");
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

async function rewrite(signal) {
  const body = { raw_prompt: shown.prompt, temperature: at("vary").checked ? 0.7 : 0, stream: true };
  const reply = await fetch("/optimize", { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (!reply.ok) throw await refused(reply);
  at("locked").hidden = true;
  at("result").hidden = false;
  let whole = false;
  for await (const [name, said] of events(reply)) {
    if (name === "error") throw new Error(said.detail);
    if (name === "token") { shown.text += said.text; at("text").textContent = shown.text; }
    if (name === "done") { whole = true; shown.text = said.optimized_prompt; shown.sure = said.confidence; }
  }
  if (!whole) throw new Error("The connection ended before the rewrite did; try again.");
  finish();
}

async function ask(event) {
  event.preventDefault();
  const prompt = at("prompt").value.trim();
  if (!prompt || running) return;
  Object.assign(shown, { prompt, text: "", sure: 0 });
  running = new AbortController();
  fault("");
  for (const id of ["summary", "thanks", "text"]) at(id).textContent = "";
  at("go").disabled = true; at("stop").hidden = false; at("result").setAttribute("aria-busy", "true");
  at("state").textContent = "Rewriting…";
  try { await rewrite(running.signal); at("state").textContent = "Done."; }
  catch (error) {
    const stopped = error.name === "AbortError";
    at("state").textContent = stopped ? "Stopped." : "";
    if (!stopped) fault(error instanceof TypeError ? "The server cannot be reached." : error.message);
    if (!shown.sure) at("result").hidden = true;
  }
  running = null;
  at("go").disabled = false; at("stop").hidden = true; at("result").removeAttribute("aria-busy");
}

async function judge(event) {
  event.preventDefault();
  const body = { raw_prompt: shown.prompt, optimized_prompt: shown.text,
    edited_prompt: at("edited").value.trim() || shown.text, success_score: Number(event.submitter.value) };
  try {
    const reply = await fetch("/feedback", { method: "POST", headers: headers(), body: JSON.stringify(body) });
    if (!reply.ok) throw await refused(reply);
    fault("");
    at("thanks").textContent = "Thank you, kept.";
  } catch (error) { fault(error instanceof TypeError ? "The server cannot be reached." : error.message); }
}

async function copy() {
  try { await navigator.clipboard.writeText(shown.text); at("copy").textContent = "Copied"; }
  catch { at("copy").textContent = "Select and copy by hand"; getSelection().selectAllChildren(at("text")); }
  setTimeout(() => { at("copy").textContent = "Copy"; }, 2500);
}

async function look() {
  try {
    const health = await (await fetch("/health")).json();
    if (!running) at("state").textContent = health.model_loaded
      ? `Ready: ${health.model}. Everything stays on this server.` : `No model is loaded: ${health.cure}.`;
    if (!health.model_loaded) setTimeout(look, 2000);
  } catch { at("state").textContent = "The server cannot be reached."; setTimeout(look, 5000); }
}

at("ask").addEventListener("submit", ask);
at("judge").addEventListener("submit", judge);
at("copy").addEventListener("click", copy);
at("stop").addEventListener("click", () => running?.abort());
at("marked").addEventListener("change", draw);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === at("prompt")) at("ask").requestSubmit();
});
look();

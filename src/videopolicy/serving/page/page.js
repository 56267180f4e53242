"use strict";
const HISTORY = 150, FRAME = 300, LONGEST = 1000, AGAIN = 2000;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const live = document.getElementById("live"), ask = document.getElementById("ask");
const cards = new Map(), pictures = new Map(), queues = [];
// What does not change, the connection, and how far the server's clock is ahead of this one.
let about = null, socket = null, ahead = 0;

// Texts are only ever set as text: what clients send never becomes markup.
function make(tag, cls, text, ...children) {
  const element = document.createElement(tag);
  if (cls) element.className = cls;
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function svg(tag) {
  return document.createElementNS("http://www.w3.org/2000/svg", tag);
}

// ---- Numbers as words
const short = (value) => String(Number(value.toPrecision(3)));
const ms = (value) => value === undefined ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const times = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function ago(at) {
  const seconds = Math.max(0, Date.now() / 1000 + ahead - at);
  if (seconds < 10) return `${seconds.toFixed(1)} s ago`;
  return seconds < 120 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}

// ---- Plots: a box of width 1000 and height 100, stretched to its place
function plot(title) {
  const value = make("b"), top = make("span", "top"), bottom = make("span", "bottom"), drawing = svg("svg");
  drawing.setAttribute("viewBox", "0 0 1000 100");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  const head = make("header", "", undefined, make("span", "quiet", title), value);
  const box = make("div", "plot", undefined, head, make("div", "frame", undefined, top, bottom, drawing));
  return { box, value, top, bottom, drawing, paths: [] };
}

function draw(target, lines) {
  lines.forEach(([cls, d], index) => {
    let path = target.paths[index];
    if (!path) {
      path = target.paths[index] = svg("path");
      target.drawing.append(path);
    }
    path.setAttribute("class", cls);
    path.setAttribute("d", d);
  });
  for (const path of target.paths.splice(lines.length)) path.remove();
}

function scale(from, to, size) {
  return (value) => Math.round(10 * size * (value - from) / (to - from || 1)) / 10;
}

function line(points) {
  return points.length ? "M" + points.map((point) => point.join(" ")).join("L") : "";
}

function area(values, x, y) {
  return values.length ? line([[x(0), 100], ...values.map((value, k) => [x(k), y(value)]), [x(values.length - 1), 100]]) + "Z" : "";
}

// ---- Actions: what was executed, what is coming, and what other plans would have done
function floats(text) {
  return new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function unpacked(plan) {
  const rows = floats(plan.sent), asked = plan.planned === null ? rows : floats(plan.planned);
  const at = (values) => (k, d) => values[k * about.dimensions.length + d];
  return { step: plan.step, length: rows.length / about.dimensions.length, sent: at(rows), planned: at(asked) };
}

function drawActions(card, plans) {
  if (!plans.length) return;
  const last = plans.at(-1), first = plans[0].step, end = last.step + last.length - 1;
  const x = scale(first, Math.max(end, first + 1), 1000);
  card.actions.forEach((target, d) => {
    const limits = about.low ? [about.low[d], about.high[d]] : [];
    let least = Math.min(...limits), most = Math.max(...limits);
    for (const plan of plans) for (let k = 0; k < plan.length; k++) {
      least = Math.min(least, plan.sent(k, d), plan.planned(k, d));
      most = Math.max(most, plan.sent(k, d), plan.planned(k, d));
    }
    const pad = 0.06 * (most - least) || 1e-3 * Math.max(1, Math.abs(most));
    const y = scale(most + pad, least - pad, 100);
    const done = [], lines = limits.map((limit) => ["limit", `M0 ${y(limit)}H1000`]);
    plans.forEach((plan, index) => {
      const stop = index + 1 < plans.length ? plans[index + 1].step - plan.step : 0, points = [], beyond = [];
      for (let k = 0; k < plan.length; k++) {
        const point = [x(plan.step + k), y(plan.sent(k, d))];
        if (k < stop || (plan === last && k === 0)) done.push(point);
        if (k >= stop - 1) points.push(point);
        if ((k < stop || plan === last) && plan.sent(k, d) !== plan.planned(k, d)) beyond.push(`M${point[0]} ${point[1]}V${y(plan.planned(k, d))}`);
      }
      if (beyond.length) lines.push(["beyond", beyond.join("")]);
      if (plan !== last && points.length > 1) lines.push(["rest", line(points)]);
      if (plan === last) lines.push(["now", `M${x(plan.step)} 0V100`], ["executed", line(done)], ["coming", line(points)]);
    });
    draw(target, lines);
    set(target.value, short(last.sent(0, d)));
    set(target.top, short(most));
    set(target.bottom, short(least));
  });
}

function drawLatencies(card, packed) {
  const values = floats(packed), rows = [];
  for (let k = 0; k + 2 < values.length; k += 3) rows.push([1e3 * values[k], 1e3 * (values[k] + values[k + 1]), 1e3 * values[k + 2]]);
  if (!rows.length) return;
  const most = Math.max(...rows.map((row) => row[2]));
  const x = scale(0, Math.max(1, rows.length - 1), 1000), y = scale(1.05 * most, 0, 100);
  draw(card.latency, [["total area", area(rows.map((row) => row[2]), x, y)], ["planned area", area(rows.map((row) => row[1]), x, y)]]);
  set(card.latency.value, ms(rows.at(-1)[2]));
  set(card.latency.top, ms(most));
}

// ---- Clients
function keys(names) {
  return make("ul", "keys", undefined, ...names.map(([cls, text]) => make("li", cls, text)));
}

function newCard() {
  const card = { title: make("h2"), note: make("p", "quiet"), instruction: make("p", "instruction"), views: new Map(), actions: [] };
  const pairs = make("div", "views"), plots = make("div", "plots");
  for (const view of about.views) {
    const sees = picture(`sees · ${view}`, "sees"), imagines = picture("", "imagined");
    pairs.append(make("div", "view", undefined, sees.box, imagines.box));
    card.views.set(view, { sees, imagines, frames: [] });
  }
  for (const name of about.dimensions) {
    card.actions.push(plot(name));
    plots.append(card.actions.at(-1).box);
  }
  card.latency = plot("latency of the last 100");
  set(card.latency.bottom, "0");
  const names = [["executed", "executed"], ["coming", "the plan now"], ["rest", "replaced"]];
  if (about.low) names.push(["limit", "limits, and what was beyond"]);
  const left = make("div", "", undefined, pairs, card.latency.box, keys([["planned", "queue and plan"], ["total", "all else"]]));
  card.columns = make("div", "columns", undefined, left, make("div", "", undefined, plots, keys(names)));
  card.box = make("article", "client", undefined, make("header", "", undefined, card.title, card.note), card.instruction, card.columns);
  return card;
}

function picture(words, cls) {
  const image = make("img"), words_ = make("span", "", words), strong = make("b");
  image.alt = "";
  return { image, strong, words: words_, box: make("figure", cls, undefined, image, make("figcaption", "", undefined, strong, words_)) };
}

function show(source, image) {
  const uri = pictures.get(source);
  if (uri && image.getAttribute("src") !== uri) image.src = uri;
}

function showClient(client) {
  let card = cards.get(client.number);
  if (!card) {
    card = newCard();
    cards.set(client.number, card);
  }
  card.client = client;
  card.box.classList.toggle("gone", !client.connected);
  set(card.title, `Client ${client.number}${client.connected ? "" : " (gone)"}`);
  set(card.instruction, client.instruction ? `“${client.instruction}”` : "");
  card.columns.hidden = !client.seen;
  for (const [view, shown] of card.views) {
    if (client.seen) show(client.seen[view], shown.sees.image);
    shown.imagines.box.hidden = !client.imagined && !about.imagine;
    shown.frames = client.imagined?.frames[view] ?? [];
  }
  drawActions(card, client.plans.map(unpacked));
  drawLatencies(card, client.latencies);
  clocks(card);
  return card.box;
}

// What changes with the time alone: ages, and which frame of what is imagined is shown.
function clocks(card) {
  const { client } = card;
  const parts = [client.address, times(client.requests, "request")];
  if (client.limited) parts.push(`${client.limited} limited`);
  parts.push(client.asked ? `last ${ago(client.asked)}` : `connected ${ago(client.since)}`);
  set(card.note, parts.join(" · "));
  for (const shown of card.views.values()) film(client.imagined, shown);
}

function film(imagined, shown) {
  const { imagines, frames } = shown;
  if (!frames.length) {
    set(imagines.words, "imagines · when no client needs the time");
    return;
  }
  // A plan is imagined at its own pace, if that is known, and its last frame is held.
  const stride = imagined.offsets.at(-1) / frames.length;
  const frame = Math.min(LONGEST, about.fps ? 1000 * stride / about.fps : FRAME);
  const place = Math.floor(Date.now() / frame) % (frames.length + 2);
  const index = still.matches ? frames.length - 1 : Math.min(place, frames.length - 1);
  show(frames[index], imagines.image);
  set(imagines.strong, `imagines, step +${imagined.offsets[index]}`);
  set(imagines.words, ` · ${ago(imagined.at)}`);
}

// ---- The server
const tiles = {};

function tile(name, value, note, drawn) {
  let shown = tiles[name];
  if (!shown) {
    shown = tiles[name] = { value: make("b"), note: make("span"), plot: plot("") };
    const box = make("div", drawn ? "number wide" : "number", undefined, make("span", "", name), shown.value, drawn ? shown.plot.drawing : shown.note);
    document.getElementById("numbers").append(box);
  }
  set(shown.value, value);
  set(shown.note, note);
  return shown;
}

function showServer(state) {
  const { counts } = state, [half, , most] = state.request_ms;
  tile("clients", String(state.connected), `${counts.connections} so far`);
  tile("requests", String(counts.requests), `${counts.limited} limited`);
  tile("reply", ms(half), `99 %: ${ms(most)}`);
  tile("plan", ms(state.plan_ms[0]), `99 %: ${ms(state.plan_ms[2])}`);
  queues.push(state.queue);
  queues.splice(0, queues.length - HISTORY);
  const top = Math.max(1, ...queues);
  draw(tile("queue, last minute", String(state.queue), "", true).plot, [["queue area", area(queues, scale(0, HISTORY - 1, 1000), scale(top, 0, 100))]]);
  const notAnswered = ["errors", "busy", "old", "refused"], sum = notAnswered.reduce((total, name) => total + counts[name], 0);
  tile("not answered", String(sum), notAnswered.map((name) => `${name} ${counts[name]}`).join(", ")).value.className = sum ? "bad" : "";
}

const BAD = ["refused", "errors", "busy", "old", "imagining failed"];
const NAMES = { connections: "connected", errors: "error" };

function showEvents(events) {
  const items = [...events].reverse().map((event) => {
    const when = make("time", "", new Date(1000 * event.at).toLocaleTimeString([], { hour12: false }));
    const who = event.client === null ? "" : `client ${event.client} `;
    const kind = make("b", BAD.includes(event.kind) ? "bad" : "", NAMES[event.kind] ?? event.kind);
    const words = (event.times > 1 ? ` ×${event.times}` : "") + (event.words ? `: ${event.words}` : "");
    return make("li", "", undefined, when, who, kind, words);
  });
  document.querySelector("#events ol").replaceChildren(...items);
}

function showState(state) {
  ahead = state.now - Date.now() / 1000;
  showServer(state);
  const boxes = state.clients.map(showClient), hidden = state.connected - state.clients.filter((client) => client.connected).length;
  for (const number of cards.keys()) if (!state.clients.some((client) => client.number === number)) cards.delete(number);
  if (hidden > 0) boxes.push(make("p", "quiet", `${times(hidden, "client")} more, that asked longer ago.`));
  if (!boxes.length) boxes.push(make("p", "quiet", "No client has connected yet."));
  const place = document.getElementById("clients");
  if (boxes.length !== place.children.length || boxes.some((box, k) => box !== place.children[k])) place.replaceChildren(...boxes);
  showEvents(state.events);
}

// ---- The connection
function status(text, waiting) {
  const element = document.getElementById("status");
  set(element, text);
  element.className = waiting ? "waiting" : "";
}

function receive({ data }) {
  const message = JSON.parse(data);
  if (message.about) {
    about = message.about;
    cards.clear();
    pictures.clear();
    set(document.getElementById("name"), about.name);
    document.title = `${about.name} · live`;
    live.hidden = false;
    ask.hidden = true;
    return;
  }
  for (const [name, code] of Object.entries(message.pictures)) pictures.set(name, `data:image/jpeg;base64,${code}`);
  const wanted = new Set(message.state.clients.flatMap((client) => [...Object.values(client.seen ?? {}), ...Object.values(client.imagined?.frames ?? {}).flat()]));
  for (const name of pictures.keys()) if (!wanted.has(name)) pictures.delete(name);
  status("live", false);
  showState(message.state);
}

function closed({ code }) {
  socket = null;
  if (code === 1008) {
    sessionStorage.removeItem("token");
    live.hidden = true;
    ask.hidden = false;
    status("a token is needed", true);
    return;
  }
  status("no connection, trying again", true);
  setTimeout(connect, AGAIN);
}

function connect() {
  // A page that nobody sees costs the server nothing.
  if (socket || document.hidden) return;
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`);
  socket.addEventListener("open", () => socket.send(sessionStorage.getItem("token") ?? ""));
  socket.addEventListener("message", receive);
  socket.addEventListener("close", closed);
}

ask.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", document.getElementById("token").value);
  document.getElementById("token").value = "";
  connect();
});
document.addEventListener("visibilitychange", () => document.hidden ? socket?.close() : connect());
setInterval(() => cards.forEach(clocks), 100);
// What stands behind # never leaves the browser; nor does it stay in the address.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given !== null) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}
connect();

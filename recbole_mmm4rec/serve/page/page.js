// The page: a history is put together, recommendations follow it. Plain JavaScript; asks this service alone.

const $ = (id) => document.getElementById(id);
const START = 1_700_000_000; // when the history begins; only the gaps count
const GAPS = [["At once", 0], ["An hour later", 3600], ["A day later", 86400], ["A week later", 604800], ["A month later", 2629800], ["A year later", 31557600]];
const DAY = 86400;
const STEP = 10; // items of an answer, and as many more at each "Show more"

let shop = null;
let history = []; // {item, text, picture, gap: seconds after the one before}
let count = STEP;
let turn = 0; // of two answers the one to the later question counts

const number = new Intl.NumberFormat("en");

// ---- asking

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the service does not answer");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function stamps() {
  let now = START;
  return history.map((one, place) => (now += place ? one.gap : 0));
}

function question() {
  const asked = { history: history.map((one) => one.item) };
  if (shop.time) asked.timestamps = stamps();
  const modality = document.querySelector("input[name=modality]:checked").value;
  if (modality) asked.modalities = [modality];
  return asked;
}

// ---- making elements

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...inside.filter((part) => part != null));
  return element;
}

function drawn(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}
const UP = "M10 15V5m-4 4 4-4 4 4", DOWN = "M10 5v10m-4-4 4 4 4-4", AWAY = "m5.5 5.5 9 9m0-9-9 9";

function pictureOf(one, small) {
  if (!shop.pictures) return null;
  const box = make("span", { class: small ? "picture small" : "picture" });
  if (one.picture) box.append(make("img", { src: `picture?item=${encodeURIComponent(one.item)}`, alt: "", loading: "lazy" }));
  else box.append(make("span", { "aria-hidden": "true" }, (one.text.match(/[\p{L}\p{N}]/u) || ["–"])[0].toUpperCase()));
  return box;
}

// Texts of items often begin with a title and go on: "Title (1977). Genre. What happens."
function partsOf(one) {
  const text = one.text || one.item;
  const end = text.indexOf(". ");
  return end > 0 && end <= 90 ? [text.slice(0, end), text.slice(end + 2)] : [text, ""];
}
const named = (one) => partsOf(one)[0];

function wordsOf(one, below, whole) {
  const [title, rest] = partsOf(one);
  return make("span", { class: "words", title: one.text },
    make("span", { class: "title" }, title),
    rest && whole ? make("span", { class: "rest" }, rest) : null,
    below ? make("span", { class: "id" }, below) : null);
}

// ---- the search box: a combobox with a list, as WAI-ARIA's practices have it

const box = { hits: [], at: -1, wait: 0, turn: 0 };

function openHits(open) {
  $("hits").hidden = !open;
  $("find").setAttribute("aria-expanded", String(open));
  if (!open) point(-1);
}

function point(at) {
  box.at = at;
  [...$("hits").children].forEach((line, place) => line.setAttribute("aria-selected", String(place === at)));
  const line = $("hits").children[at];
  if (line) {
    $("find").setAttribute("aria-activedescendant", line.id);
    line.scrollIntoView({ block: "nearest" });
  } else $("find").removeAttribute("aria-activedescendant");
}

async function look() {
  const mine = ++box.turn;
  let found;
  try {
    found = await ask(`titles?limit=20&q=${encodeURIComponent($("find").value.slice(0, 200))}`);
  } catch (error) {
    return tell(error);
  }
  if (mine !== box.turn || document.activeElement !== $("find")) return;
  box.hits = found.items;
  $("hits").replaceChildren(
    ...box.hits.map((one, place) =>
      make("li", { role: "option", id: `hit-${place}`, "aria-selected": "false", onpointerdown: (event) => event.preventDefault(), onclick: () => take(one) }, pictureOf(one, true), wordsOf(one, one.item)),
    ),
  );
  if (!box.hits.length) $("hits").append(make("li", { class: "none", role: "option", "aria-disabled": "true" }, "Nothing has these words"));
  $("find-status").textContent = box.hits.length ? `${box.hits.length} items; arrow keys choose` : "Nothing has these words";
  openHits(true);
}

function take(one) {
  history.push({ ...one, gap: DAY });
  $("find").value = "";
  openHits(false);
  box.turn++;
  changed();
}

function setUpSearch() {
  const find = $("find");
  find.addEventListener("input", () => {
    clearTimeout(box.wait);
    box.wait = setTimeout(look, 120);
  });
  find.addEventListener("focus", () => find.value && look());
  find.addEventListener("click", look);
  find.addEventListener("blur", () => openHits(false));
  find.addEventListener("keydown", async (event) => {
    const open = !$("hits").hidden, last = box.hits.length - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) await look();
      else if (last >= 0) point(event.key === "ArrowDown" ? (box.at >= last ? 0 : box.at + 1) : box.at <= 0 ? last : box.at - 1);
    } else if (event.key === "Enter" && open && box.hits[box.at]) {
      event.preventDefault();
      take(box.hits[box.at]);
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (open) openHits(false);
      else find.value = "";
    }
  });
}

// ---- the history

function move(from, to, direction) {
  if (to < 0 || to >= history.length) return;
  history.splice(to, 0, ...history.splice(from, 1));
  changed();
  const row = $("history").querySelectorAll(".row")[to];
  const same = row.querySelector(`[data-act=${direction}]`);
  (same.disabled ? row.querySelector("[data-act]:not(:disabled)") : same).focus();
}

function drop(place) {
  history.splice(place, 1);
  changed();
  const rows = $("history").querySelectorAll("[data-act=drop]");
  (rows[Math.min(place, rows.length - 1)] || $("find")).focus();
}

function gapOf(one) {
  const select = make("select", { "aria-label": `When ${named(one)} came` }, ...GAPS.map(([words, seconds]) => make("option", { value: seconds, selected: seconds === one.gap }, words)));
  select.addEventListener("change", () => {
    one.gap = Number(select.value);
    recommend();
  });
  return make("div", { class: "gap" }, select);
}

function rowOf(one, place) {
  const act = (name, words, path, does, disabled) =>
    make("button", { type: "button", class: "icon", "data-act": name, "aria-label": `${words}: ${named(one)}`, title: words, disabled, onclick: does }, drawn(path));
  const keys = (event) => {
    if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    move(place, place + (event.key === "ArrowUp" ? -1 : 1), event.key === "ArrowUp" ? "up" : "down");
  };
  return make(
    "li",
    { onkeydown: keys },
    place && shop.time ? gapOf(one) : null,
    make(
      "div",
      { class: "row" },
      pictureOf(one, true),
      wordsOf(one, one.item),
      make("span", { class: "acts" },
        act("up", "Earlier", UP, () => move(place, place - 1, "up"), place === 0),
        act("down", "Later", DOWN, () => move(place, place + 1, "down"), place === history.length - 1),
        act("drop", "Remove", AWAY, () => drop(place), false)),
    ),
  );
}

function changed() {
  count = STEP;
  $("history").replaceChildren(...history.map(rowOf));
  $("clear").hidden = !history.length;
  recommend();
}

// ---- recommendations

async function recommend() {
  const mine = ++turn;
  $("results").setAttribute("aria-busy", "true");
  const begin = performance.now();
  let found;
  try {
    if (history.length) found = await ask("recommend", { ...question(), k: Math.min(count, shop.most, shop.items), exclude_seen: $("seen").checked, ...neighbours() });
    else found = { ...(await ask(`titles?limit=${STEP}`)), notes: [], unknown: [] };
  } catch (error) {
    if (mine === turn) tell(error);
    return;
  }
  if (mine !== turn) return;
  tell(null);
  $("found-title").textContent = history.length && !found.popular ? "Recommended next" : "Popular here";
  $("status").textContent = history.length ? `${found.items.length} of ${number.format(shop.items)} items, in ${Math.max(1, Math.round(performance.now() - begin))} ms` : "Add one to begin";
  $("notes").replaceChildren(...found.notes.map((note) => make("li", {}, note)));
  $("results").replaceChildren(...found.items.map(resultOf));
  $("results").setAttribute("aria-busy", "false");
  $("more").hidden = !history.length || found.items.length < count || count >= Math.min(shop.most, shop.items);
}

const neighbours = () => (shop.neighbours ? { neighbours: $("neighbours").checked } : {});

function tell(error) {
  $("mistake").hidden = !error;
  $("mistake").textContent = error ? `This did not work: ${error.message}` : "";
  if (!error) return;
  $("results").setAttribute("aria-busy", "false");
  $("status").textContent = "";
}

function resultOf(one, place) {
  const line = make("li", { class: "result" });
  const add = make("button", { type: "button", class: "act", "aria-label": `Add ${named(one)} to the history`, onclick: () => { take(one); $("results").focus(); } }, "Add");
  const acts = make("span", { class: "acts" });
  if (history.length) {
    const why = make("button", { type: "button", class: "act", "aria-expanded": "false", "aria-label": `Why ${named(one)}` }, "Why?");
    why.addEventListener("click", () => toggle(line, why, one));
    acts.append(why);
  }
  acts.append(add);
  const below = one.score === undefined ? one.item : `${one.item} · score ${one.score.toFixed(2)}`;
  line.append(make("div", { class: "row" }, make("span", { class: "rank", "aria-hidden": "true" }, String(place + 1)), pictureOf(one), wordsOf(one, below, true), acts));
  return line;
}

// ---- why

async function toggle(line, button, one) {
  const open = line.querySelector(".why");
  if (open) {
    open.remove();
    button.setAttribute("aria-expanded", "false");
    return;
  }
  const panel = make("div", { class: "why", role: "region", "aria-label": `Why ${named(one)}` }, make("p", {}, "…"));
  line.append(panel);
  button.setAttribute("aria-expanded", "true");
  try {
    panel.replaceChildren(...reasons(await ask("explain", { ...question(), ...neighbours(), item: one.item })));
  } catch (error) {
    panel.replaceChildren(make("p", { class: "hint" }, `This did not work: ${error.message}`));
  }
}

function bars(rows) {
  const values = rows.map((row) => row.value);
  const low = Math.min(0, ...values), high = Math.max(0, ...values), span = high - low || 1;
  return make(
    "ul",
    { class: "bars" },
    ...rows.map(({ name, sub, value }) => {
      const part = make("i", { class: value < 0 ? "less" : null });
      const bar = make("span", { class: "bar", "aria-hidden": "true" }, part);
      bar.style.setProperty("--zero", `${(-low / span) * 100}%`);
      bar.style.setProperty("--from", `${((Math.min(0, value) - low) / span) * 100}%`);
      bar.style.setProperty("--size", `${(Math.abs(value) / span) * 100}%`);
      return make("li", {}, make("span", { class: "words" }, make("span", { class: "name", title: name }, name), sub ? make("span", { class: "sub" }, sub) : null), bar, make("span", { class: "value" }, signed(value)));
    }),
  );
}

const PARTS = { text: "Texts", image: "Pictures", neighbours: "What others took together" };
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function lasting(seconds) {
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) || UNITS[3];
  const many = Math.round(seconds / size);
  return `${number.format(many)} ${unit}${many === 1 ? "" : "s"}`;
}

const signed = (value) => {
  const digits = Math.abs(value).toFixed(2);
  return digits === "0.00" ? digits : `${value < 0 ? "−" : "+"}${digits}`;
};

function reasons(why) {
  const gaps = new Map(why.gaps.map((gap) => [gap.position, gap]));
  const past = why.past.map((one) => {
    const gap = gaps.get(one.position);
    const sub = gap && gap.seconds ? `${lasting(gap.seconds)} later · without that gap ${signed(gap.change)}` : "";
    return { name: named(one), sub, value: one.drop };
  });
  const parts = { ...why.modalities, neighbours: why.neighbours };
  const lifts = Object.entries(why.averages).map(([name, mean]) => ({ name: PARTS[name] || name, value: parts[name] - mean }));
  const told = [make("p", { class: "summary" }, `Rank ${number.format(why.rank)} of ${number.format(why.among)}, score ${why.score.toFixed(2)}.`)];
  told.push(make("h3", {}, "What the score loses without each past item"), bars(past));
  if (lifts.length) told.push(make("h3", {}, "What lifts it above the shop’s average item"), bars(lifts));
  const notes = [...why.notes];
  if (why.time !== null) notes.unshift(`With no time between the items the score changes by ${signed(why.time)}.`);
  if (notes.length) told.push(make("p", { class: "hint" }, notes.join(" ")));
  return told;
}

// ---- begin

async function begin() {
  setUpSearch();
  $("clear").addEventListener("click", () => {
    history = [];
    changed();
    $("find").focus();
  });
  $("more").addEventListener("click", async () => {
    const before = $("results").children.length;
    count += STEP;
    await recommend();
    $("results").children[before]?.querySelector("button").focus();
  });
  $("switches").addEventListener("change", recommend);
  try {
    shop = await ask("about");
  } catch (error) {
    return tell(error);
  }
  document.title = `${shop.name}: recommendations`;
  $("shop").textContent = shop.name;
  const looked = shop.modalities.map((one) => (one === "image" ? "pictures" : one)).join(" and ");
  $("facts").textContent = [`${number.format(shop.items)} items`, looked, shop.neighbours ? "neighbours" : "", shop.time ? "time" : ""].filter(Boolean).join(" · ");
  $("history-hint").textContent = shop.time ? "What somebody took, oldest first, and how much later." : "What somebody took, oldest first.";
  $("modality").hidden = shop.modalities.length < 2;
  $("neighbours-row").hidden = !shop.neighbours;
  changed();
}

begin();

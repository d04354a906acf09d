"use strict";
// The page of `GET /`: sends the form to `POST /score` with `explain`, and draws the attribution of each reward.
// The service inserts this file into page.html. Addresses are relative to the page, so that a path prefix works.

const ROOT = location.origin + location.pathname.replace(/\/?$/, "/");
const el = (id) => document.getElementById(id);
let info = null;

const FLAGS = {
  empty: "Nothing visible is left to evaluate.",
  reasoning: "There is reasoning, as in <think>. The recipe says whether it counts.",
  unfinished_reasoning: "The reasoning never ends, so that there may be no answer.",
  cut_at_stop_string: "The text after a stop string was cut: it is the beginning of a made-up next turn.",
  relevance_unreadable: "The encoder has no tokens for most of this text, so that its relevance cannot be measured.",
  invisible_characters: "There are invisible characters.",
  reference_number: "The reference was read as a number.",
  reference_math: "The reference was read as mathematics.",
  reference_math_not_installed: "The reference looks like mathematics; the package that compares it is not installed.",
  reference_option: "The reference was read as the letter of an option.",
  reference_yes_no: "The reference was read as yes or no.",
  reference_date: "The reference was read as a date.",
  reference_list: "The reference was read as a list, in any order.",
  reference_exact: "The reference was compared as a text, after normalisation.",
};

const EXAMPLES = {
  "an answer, and the same in a loop": {
    prompt: "How do I keep basil alive on a window sill?",
    a: "Give it six hours of sun, water it when the top of the soil feels dry, and pinch off the tips every week so that it branches instead of flowering.",
    b: "Give it six hours of sun every day. Give it six hours of sun every day. Give it six hours of sun every day. Give it six hours of sun every day.",
    query_type: "open_ended", reference: "",
  },
  "a right number, and a wrong one": {
    prompt: "What is 17 × 23?", a: "17 × 23 = 391.", b: "17 × 23 = 381.", query_type: "closed_ended", reference: "391",
  },
  "an answer, and its prompt copied": {
    prompt: "Explain in two sentences why bread dough has to rest.",
    a: "Resting lets the flour absorb the water and the gluten relax, so the dough stretches without tearing. Yeast also needs that time to make the gas that lifts the crumb.",
    b: "Explain in two sentences why bread dough has to rest. Why bread dough has to rest is explained in two sentences.",
    query_type: "open_ended", reference: "",
  },
  "reasoning before the answer, and a next turn after it": {
    prompt: "Name the capital of Australia.",
    a: "<think>Sydney is the largest city, but the capital is another one.</think>The capital of Australia is Canberra.",
    b: "The capital of Australia is Canberra.\n### Instruction:\nName the capital of Canada.\n### Response:\nOttawa.",
    query_type: "closed_ended", reference: "Canberra",
  },
};

// Small helpers ---------------------------------------------------------------------------------------------------

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const has = (value) => value !== null && value !== undefined;
const rounded = (x, options) => (has(x) ? Number(x).toLocaleString("en", { maximumFractionDigits: 3, ...options }).replace("-", "−") : "–");
const number = (x) => rounded(x);
const points = (x) => rounded(x, { minimumFractionDigits: 3 });
const signed = (x) => (Math.abs(x) < 5e-4 ? "0" : `${x < 0 ? "" : "+"}${points(x)}`);
const featureOf = (name) => info.features.find((feature) => feature.name === name) || { label: name, description: "" };
const labelOf = (name) => (name === "empty" ? "Empty response" : featureOf(name).label);
const recipeOf = (name) => info.recipes.find((recipe) => recipe.name === name);

// The service -----------------------------------------------------------------------------------------------------

async function call(path, body) {
  const headers = {};
  const key = el("key").value.trim();
  if (/[^\x21-\x7e]/.test(key)) throw { status: 401, title: "This is not an API key", detail: "It has spaces or characters that a header cannot carry." };
  if (key) headers["x-api-key"] = key;
  if (body) headers["content-type"] = "application/json";
  let answer, content;
  try {
    answer = await fetch(ROOT + path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  } catch (error) {
    throw { title: "The service did not answer", detail: "It may be restarting, or the connection is down. Try again." };
  }
  try {
    content = await answer.json();
  } catch (error) {
    throw { title: `Unexpected answer (${answer.status} ${answer.statusText})`, detail: "It is not JSON, so that it may come from a proxy in front of the service." };
  }
  if (answer.status === 401) {
    throw { status: 401, title: "An API key is needed", detail: key ? "The service does not accept this key." : "Enter the key of this service." };
  }
  if (!answer.ok) throw { retry: answer.headers.get("retry-after"), ...content };
  return content;
}

function fieldName(field) {
  const side = { "items.0": "A", "items.1": "B" }[field.match(/^items\.\d+/)];
  const names = { response: `response ${side}`, prompt: "prompt", reference: "reference", query_type: "kind of prompt" };
  return names[field.split(".")[2]] || field;
}

function complain(problem) {
  const box = make("div", { className: "error" }, make("strong", {}, problem.title || "Error"));
  if (problem.detail) box.append(make("div", {}, problem.detail));
  const errors = (problem.errors || []).map((error) => `${fieldName(error.field)} ${error.message}`);
  if (errors.length) box.append(make("ul", {}, ...[...new Set(errors)].map((text) => make("li", {}, text))));
  if (problem.retry) box.append(make("div", {}, `Try again in ${problem.retry} s.`));
  el("problem").replaceChildren(box);
  if (problem.status === 401) {
    el("key_details").open = true;
    el("key").focus();
  }
}

// The formula of a recipe -----------------------------------------------------------------------------------------

function showFormula() {
  const recipe = recipeOf(el("recipe").value);
  const pieces = recipe.formula[el("query_type").value].split(/\^([\d.]+)/);
  const formula = pieces.map((piece, i) => (i % 2 ? make("sup", {}, piece) : piece));
  el("formula").replaceChildren("reward = ", ...formula, recipe.description ? ` — ${recipe.description}` : "");
  el("reference_row").hidden = el("query_type").value !== "closed_ended";
}

// Attribution -----------------------------------------------------------------------------------------------------

// Shapley values of the factors in the product: what each adds on the way from `before` to `after`, averaged over all
// orders. A factor that one side does not have keeps the other side's baseline value.
function shapley(before, after) {
  const names = Object.keys(before);
  const parts = Object.fromEntries(names.map((name) => [name, 0]));
  const factorial = (n) => (n < 2 ? 1 : n * factorial(n - 1));
  for (let set = 0; set < 2 ** names.length; set++) {
    const chosen = names.filter((_, i) => set & (1 << i));
    const product = names.reduce((all, name) => all * (chosen.includes(name) ? after : before)[name], 1);
    const weight = (size) => (factorial(size) * factorial(names.length - size - 1)) / factorial(names.length);
    for (const name of names) {
      parts[name] += chosen.includes(name) ? weight(chosen.length - 1) * product : -weight(chosen.length) * product;
    }
  }
  return parts;
}

function difference(a, b) {
  const names = [...new Set([...Object.keys(a.factors), ...Object.keys(b.factors)])];
  const baseline = { ...a.baseline, ...b.baseline };
  const side = (one) => Object.fromEntries(names.map((name) => [name, one.factors[name] ?? baseline[name]]));
  return shapley(side(b), side(a));
}

function bar(part, scale) {
  const share = scale ? Math.min(50, (50 * Math.abs(part)) / scale) : 0;
  const filled = make("i", { className: part < 0 ? "loss" : "" });
  filled.style.width = `${share}%`;
  filled.style[part < 0 ? "right" : "left"] = "50%";
  return make("span", { className: "track", ariaHidden: "true" }, filled);
}

function row(cells, className = "") {
  const [first, ...others] = cells;
  return make("tr", { className }, make("th", { scope: "row" }, ...[first].flat()), ...others);
}

const cell = (text) => make("td", { className: "number" }, text);
const barCell = (part, scale) => make("td", { className: "bar" }, bar(part, scale));

function tableOf(caption, heads, rows) {
  const head = heads.map((text, i) => make("th", { scope: "col", className: i ? "number" : "" }, text));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}

// The results -----------------------------------------------------------------------------------------------------

function partsTable(result, recipe, scale) {
  const { parts, factors, baseline_reward: start } = result.attribution;
  const value = (name) => (has(result.features[name]) ? result.features[name] : name === "gold" ? result.gold_reward : recipe.constants[name]);
  const shown = (name) => {
    const [x, factor] = [value(name), factors[name]];
    return has(x) && number(x) !== number(factor) ? `${number(x)} → ${number(factor)}` : number(factor);
  };
  const rows = Object.entries(parts).map(([name, part]) =>
    row([[labelOf(name), make("small", {}, featureOf(name).description)], cell(shown(name)), cell(signed(part)), barCell(part, scale)]));
  const unused = Object.keys(result.features).filter((name) => !(name in parts) && has(result.features[name]));
  const asides = unused.map((name) =>
    row([[labelOf(name), make("small", {}, "not part of this reward")], cell(number(result.features[name])), cell(""), make("td")], "aside"));
  return tableOf(
    "value → factor after the recipe's mapping; part of the reward",
    ["feature", "value", "part", ""],
    [
      row([["Start", make("small", {}, "the baseline: factors at 1, constants at their value")], cell(""), cell(points(start)), make("td")]),
      ...rows,
      row(["Reward", cell(""), cell(points(result.reward)), make("td")], "sum"),
      ...asides,
    ],
  );
}

function card(name, result, reply, scale) {
  const box = make("article", { className: "card" }, make("h3", {}, `Response ${name}`));
  if (result.error) {
    box.append(make("p", { className: "error" }, `No reward: ${result.error.field} ${result.error.message}`));
    return box;
  }
  box.append(make("div", { className: "reward" }, points(result.reward)));
  if (has(result.gold_reward)) box.append(make("div", { className: "gold" }, `gold ${points(result.gold_reward)} (${reply.models.gold})`));
  if (result.flags.length) {
    const flags = result.flags.map((flag) => make("li", {}, make("code", {}, flag), FLAGS[flag] ? `: ${FLAGS[flag]}` : ""));
    box.append(make("ul", { className: "flags", ariaLabel: "Flags" }, ...flags));
  }
  box.append(partsTable(result, recipeOf(reply.recipe.name), scale));
  return box;
}

function differenceTable(a, b) {
  const parts = Object.entries(difference(a.attribution, b.attribution)).sort((x, y) => Math.abs(y[1]) - Math.abs(x[1]));
  const scale = Math.max(...parts.map(([, part]) => Math.abs(part)));
  const factor = (result, name) => number(result.attribution.factors[name]);
  const rows = parts.map(([name, part]) =>
    row([labelOf(name), cell(factor(a, name)), cell(factor(b, name)), cell(signed(part)), barCell(part, scale)]));
  const total = row(["Reward", cell(points(a.reward)), cell(points(b.reward)), cell(signed(a.reward - b.reward)), make("td")], "sum");
  const golds = has(a.gold_reward) && has(b.gold_reward)
    ? [row(["Gold, for comparison", cell(points(a.gold_reward)), cell(points(b.gold_reward)), cell(signed(a.gold_reward - b.gold_reward)), make("td")], "aside")] : [];
  const caption = "factors of A and B, and the part of A − B that each explains (Shapley values; they sum to the difference)";
  return [make("h2", {}, "The difference by feature"), make("div", { className: "card" }, tableOf(caption, ["feature", "A", "B", "A − B", ""], [...rows, total, ...golds]))];
}

// Text with its ranges: offsets count code points, which `Array.from` gives.
function markedText(name, response, result) {
  const { evaluated, repeated } = result.attribution;
  const characters = Array.from(response);
  const edges = [0, characters.length, ...evaluated.flat(), ...repeated.flat()];
  const cuts = [...new Set(edges)].sort((x, y) => x - y);
  const within = (ranges, at) => ranges.some(([start, end]) => start <= at && at < end);
  const pieces = cuts.slice(0, -1).map((start, i) => {
    const text = characters.slice(start, cuts[i + 1]).join("");
    if (!within(evaluated, start)) return text.trim() ? make("del", {}, text) : text;
    return within(repeated, start) ? make("mark", {}, text) : text;
  });
  const text = make("div", { className: "text", tabIndex: 0, role: "group", ariaLabel: `Response ${name} as it was read` }, ...pieces);
  return make("article", { className: "card" }, make("h3", {}, `Response ${name}`), text);
}

function headlineOf(results) {
  const [a, b] = results;
  if (results.some((result) => result.error)) return "Not every response could be scored";
  if (!b) return `The reward is ${points(a.reward)}`;
  const gap = Math.abs(a.reward - b.reward);
  if (gap < 5e-4) return `A and B earn the same: ${points(a.reward)}`;
  return `${a.reward > b.reward ? "A" : "B"} earns ${points(gap)} more`;
}

function draw(reply, responses) {
  const { results } = reply;
  const scored = results.filter((result) => result.attribution);
  const scale = Math.max(0, ...scored.flatMap((result) => Object.values(result.attribution.parts).map(Math.abs)));
  const names = ["A", "B"];
  el("headline").textContent = headlineOf(results);
  el("cards").replaceChildren(...results.map((result, i) => card(names[i], result, reply, scale)));
  el("difference").replaceChildren(...(scored.length === 2 ? differenceTable(...results) : []));
  el("texts").replaceChildren(...results.flatMap((result, i) => (result.attribution ? [markedText(names[i], responses[i], result)] : [])));
  for (const id of ["cards", "texts"]) el(id).classList.toggle("single", results.length === 1);
  const used = `recipe ${reply.recipe.name}, hash ${reply.recipe.hash}; ${rounded(reply.timing_ms.total, { maximumFractionDigits: 0 })} ms`;
  el("notes").replaceChildren(...[...reply.notices, used].map((text) => make("li", {}, text)));
  el("result").hidden = false;
}

// The form --------------------------------------------------------------------------------------------------------

async function score() {
  if (el("go").ariaBusy === "true") return;
  el("go").ariaBusy = "true";
  el("status").textContent = "Scoring …";
  el("problem").replaceChildren();
  try {
    if (!info) await start();
    const responses = [el("a").value, ...(el("b").value ? [el("b").value] : [])];
    const shared = { prompt: el("prompt").value, query_type: el("query_type").value };
    if (el("query_type").value === "closed_ended") shared.reference = el("reference").value;
    const items = responses.map((response) => ({ ...shared, response }));
    const reply = await call("score", { items, recipe: el("recipe").value, gold: el("gold").checked, explain: true, on_item_error: "report" });
    draw(reply, responses);
    el("status").textContent = el("headline").textContent + ".";
    if (document.activeElement === el("go")) el("headline").focus();
  } catch (problem) {
    el("result").hidden = true;
    el("status").textContent = "";
    complain(problem instanceof Error ? { title: "The page failed", detail: String(problem) } : problem);
  } finally {
    el("go").ariaBusy = "false";
  }
}

async function start() {
  info = await call("info");
  const options = info.recipes.map((recipe) => {
    const missing = (recipe.needs_encoder && !info.relevance && "an encoder") || (recipe.needs_gold && !info.gold && "a gold model");
    const text = missing ? `${recipe.name} (needs ${missing})` : recipe.name;
    return make("option", { value: recipe.name, disabled: Boolean(missing), selected: recipe.name === info.default_recipe }, text);
  });
  el("recipe").replaceChildren(...options);
  el("gold").disabled = !info.gold;
  el("gold").checked = Boolean(info.gold);
  el("gold_label").textContent = info.gold ? "gold score beside it" : "no gold model here";
  const models = `Glassbox ${info.version} · encoder ${info.relevance ? info.relevance.id : "none"} · gold ${info.gold ? info.gold.id : "none"} · `;
  el("footer").replaceChildren(models, make("a", { href: ROOT + "docs" }, "API"));
  showFormula();
}

function loadExample() {
  const example = EXAMPLES[el("example").value];
  if (!example) return;
  for (const [id, value] of Object.entries(example)) el(id).value = value;
  if (info) showFormula();
  score();
}

for (const name of Object.keys(EXAMPLES)) el("example").append(make("option", { value: name }, name));
el("example").addEventListener("change", loadExample);
for (const id of ["recipe", "query_type"]) el(id).addEventListener("change", showFormula);
el("key").addEventListener("change", () => { if (!info) start().then(() => el("problem").replaceChildren(), complain); });
el("form").addEventListener("submit", (event) => { event.preventDefault(); score(); });
el("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); score(); }
});
start().catch(complain);

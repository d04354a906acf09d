"use strict";
// The page of `GET /`: sends the form to `POST /score` with `explain`; page_results.js, which the service appends, draws
// the reply. Addresses are relative to the page, so that a path prefix works.

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
const isZero = (x) => Math.abs(x) < 5e-4;
const signed = (x) => (isZero(x) ? "0" : `${x < 0 ? "" : "+"}${points(x)}`);
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
  el("formula").replaceChildren("reward = ", ...formula, make("small", {}, recipe.description));
  el("reference_row").hidden = el("query_type").value !== "closed_ended";
}

// The form --------------------------------------------------------------------------------------------------------

async function score() {
  if (el("go").ariaBusy === "true") return;
  el("go").ariaBusy = "true";
  el("status").textContent = "Scoring …";
  el("problem").replaceChildren();
  try {
    if (!info || isLoading()) await start();
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

const isLoading = () => Object.values(info.models || {}).includes("loading");

async function start() {
  const chosen = el("recipe").value;
  const withGold = !info?.gold || el("gold").checked; // as chosen, once there was a choice
  info = await call("info");
  const options = info.recipes.map((recipe) => {
    const missing = (recipe.needs_encoder && !info.relevance && "an encoder") || (recipe.needs_gold && !info.gold && "a gold model");
    const text = missing ? `${recipe.name} (needs ${missing})` : recipe.name;
    return make("option", { value: recipe.name, disabled: Boolean(missing), selected: recipe.name === (chosen || info.default_recipe) }, text);
  });
  el("recipe").replaceChildren(...options);
  el("gold").disabled = !info.gold;
  el("gold").checked = Boolean(info.gold) && withGold;
  el("gold_label").textContent = info.gold ? "gold score beside it" : info.models?.gold ? `the gold model is ${info.models.gold === "loading" ? "loading" : "not usable"}` : "no gold model here";
  const models = `Glassbox ${info.version} · encoder ${info.relevance ? info.relevance.id : "none"} · gold ${(info.golds || []).map((one) => one.id).join(", ") || (info.gold ? info.gold.id : "none")} · `;
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

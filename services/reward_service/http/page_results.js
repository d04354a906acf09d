// The results of the page: attribution of each reward, parts of the difference, and the text that was read.

// Attribution -----------------------------------------------------------------------------------------------------

// Shapley values of the factors: what each adds on the way from `before` to `after`, averaged over all orders. With
// d = after - before, that of factor i is d_i times the integral of the product of the others' before + t d, t = 0 to 1.
function shapley(before, after) {
  const names = Object.keys(before);
  const partOf = (name) => {
    let coefficients = [1];
    for (const other of names.filter((each) => each !== name)) {
      const [b, d] = [before[other], after[other] - before[other]];
      coefficients = [...coefficients, 0].map((c, power) => c * b + (power ? coefficients[power - 1] * d : 0));
    }
    return (after[name] - before[name]) * coefficients.reduce((sum, c, power) => sum + c / (power + 1), 0);
  };
  return Object.fromEntries(names.map((name) => [name, partOf(name)]));
}

// The part of each factor in the reward of A minus that of B. What one side lacks has its baseline value there.
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

// One row for all factors without a part, or none.
function idleRows(title, parts, shown, nCells) {
  const idle = Object.keys(parts).filter((name) => isZero(parts[name]));
  if (!idle.length) return [];
  const names = idle.map((name) => `${labelOf(name)} ${shown(name)}`).join(", ");
  const head = make("th", { scope: "row", colSpan: nCells }, title, make("small", {}, names));
  return [make("tr", { className: "aside" }, head)];
}

// The results -----------------------------------------------------------------------------------------------------

function partsTable(result, recipe, scale) {
  const { parts, factors, baseline_reward: start } = result.attribution;
  const value = (name) => (has(result.features[name]) ? result.features[name] : name === "gold" ? result.gold_reward : recipe.constants[name]);
  const shown = (name) => {
    const [x, factor] = [value(name), factors[name]];
    return has(x) && number(x) !== number(factor) ? `${number(x)} → ${number(factor)}` : number(factor);
  };
  const rows = Object.entries(parts).filter(([, part]) => !isZero(part)).map(([name, part]) =>
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
      ...idleRows("Without effect", parts, shown, 4),
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
  const golds = result.golds || { [reply.models.gold]: result.gold_reward };
  for (const [id, score] of Object.entries(golds)) if (has(score)) box.append(make("div", { className: "gold" }, `gold ${points(score)} (${id})`));
  if (result.flags.length) {
    const flags = result.flags.map((flag) => make("li", {}, make("code", {}, flag), FLAGS[flag] ? `: ${FLAGS[flag]}` : ""));
    box.append(make("ul", { className: "flags", ariaLabel: "Flags" }, ...flags));
  }
  box.append(partsTable(result, recipeOf(reply.recipe.name), scale));
  return box;
}

function differenceTable(a, b) {
  const parts = difference(a.attribution, b.attribution);
  const working = Object.entries(parts).filter(([, part]) => !isZero(part)).sort((x, y) => Math.abs(y[1]) - Math.abs(x[1]));
  const scale = Math.max(0, ...working.map(([, part]) => Math.abs(part)));
  const factor = (result, name) => number(result.attribution.factors[name]);
  const rows = working.map(([name, part]) =>
    row([labelOf(name), cell(factor(a, name)), cell(factor(b, name)), cell(signed(part)), barCell(part, scale)]));
  const both = (name) => [...new Set([factor(a, name), factor(b, name)])].join(" and ");
  const idle = idleRows("Without effect on the difference", parts, both, 5);
  const total = row(["Reward", cell(points(a.reward)), cell(points(b.reward)), cell(signed(a.reward - b.reward)), make("td")], "sum");
  const golds = has(a.gold_reward) && has(b.gold_reward)
    ? [row(["Gold, for comparison", cell(points(a.gold_reward)), cell(points(b.gold_reward)), cell(signed(a.gold_reward - b.gold_reward)), make("td")], "aside")] : [];
  const caption = "factors of A and B, and the part of A − B that each explains (Shapley values; they sum to the difference)";
  return [make("h2", {}, "The difference by feature"), make("div", { className: "card" }, tableOf(caption, ["feature", "A", "B", "A − B", ""], [...rows, ...idle, total, ...golds]))];
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
  if (isZero(gap)) return `A and B earn the same: ${points(a.reward)}`;
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

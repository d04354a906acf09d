"use strict";
/* Search, filter and order of the responses. The page shows all of them without this script. */
const form = document.getElementById("browse");
if (form) {
  const list = document.getElementById("samples");
  const rows = Array.from(list.children);
  const texts = new Map();
  const text = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const update = () => {
    const { find, type, order } = form.elements;
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const [key, sign] = order.value.split(" ");
    for (const row of rows) {
      const ofType = !type.value || row.dataset.type === type.value;
      row.hidden = !(ofType && words.every((word) => text(row).includes(word)));
    }
    const value = (row) => Number(row.dataset[key]);
    list.append(...[...rows].sort((a, b) => Number(sign) * (value(a) - value(b)) || a.dataset.index - b.dataset.index));
    const n = rows.filter((row) => !row.hidden).length;
    document.getElementById("count").textContent = `${n} of ${rows.length} prompts`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}
const settings = document.querySelectorAll("details.settings");
addEventListener("beforeprint", () => settings.forEach((one) => { one.open = true; }));

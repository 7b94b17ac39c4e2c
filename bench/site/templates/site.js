"use strict";
for (const box of document.querySelectorAll("[data-hide]"))
  box.addEventListener("change", () => document.body.classList.toggle("no-" + box.dataset.hide, !box.checked));
for (const input of document.querySelectorAll("[data-filter]"))
  input.addEventListener("input", () => {
    for (const row of document.getElementById(input.dataset.filter).tBodies[0].rows)
      row.hidden = !row.textContent.toLowerCase().includes(input.value.toLowerCase());
  });
for (const table of document.querySelectorAll("table.sortable"))
  for (const head of table.tHead.rows[0].cells) {
    if ("fixed" in head.dataset) continue;
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending", i = head.cellIndex, body = table.tBodies[0];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      // by the number that a cell begins with, where all have one; else as text
      const text = row => row.cells[i].textContent.trim();
      const all = [...body.rows], numbers = all.every(row => !Number.isNaN(parseFloat(text(row))));
      const rows = all.sort((a, b) => numbers ? parseFloat(text(a)) - parseFloat(text(b)) : text(a).localeCompare(text(b)));
      body.append(...(down ? rows.reverse() : rows));
    });
  }

"use strict";
// What the pages do beyond being read: switches, tables that sort and filter (DataTables), pictures of numbers (Vega-Lite), copying.
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const element = (name, properties = {}, ...inner) => { const made = Object.assign(document.createElement(name), properties); made.append(...inner); return made; };
const wanted = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");

// --- switches, and columns that stay in view -------------------------------------------------------------------------
function keepInView(table) {
  const heads = $$("thead .kept", table), room = table.parentElement.clientWidth;
  const widths = heads.map(head => head.offsetWidth), remains = heads.findIndex(head => head.textContent.trim().startsWith("worst"));
  const total = some => some.reduce((sum, i) => sum + widths[i], 0), all = heads.map((_, i) => i);
  // all of them where half of the room is left for the rest, else what remains, else the name alone
  const stay = [all, [0, remains], [0]].find(some => !some.includes(-1) && total(some) < 0.6 * room) ?? [0];
  for (const row of table.rows) $$(".kept", row).forEach((cell, i) => {
    const at = stay.indexOf(i);
    cell.classList.toggle("stays", at >= 0);
    cell.style.left = at >= 0 ? `${total(stay.slice(0, at))}px` : "";
  });
}
const inView = () => $$("table.printed").forEach(keepInView);
for (const box of $$("[data-hide]")) {
  const apply = () => { document.body.classList.toggle("no-" + box.dataset.hide, !box.checked); inView(); };
  box.addEventListener("change", apply);
  if (box.dataset.hide === "smaller" && !document.querySelector(".smaller")) box.closest("label").remove();
  if (box.dataset.hide === "paper" && !document.querySelector(".paper")) box.closest("label").remove();
}
inView();
addEventListener("resize", inView);

// --- tables ----------------------------------------------------------------------------------------------------------
const LAYOUT = { topStart: "search", topEnd: "info", bottomStart: null, bottomEnd: "paging" };
const plain = text => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function said(cell) { return cell instanceof Element ? (cell.dataset.search ?? cell.textContent.trim()) : String(cell ?? ""); }

function filters(table, api) {
  const place = document.querySelector(`.filters[data-for="${table.id}"]`);
  if (!place) return;
  const heads = api.columns().header().toArray().map(head => head.textContent.trim());
  for (const name of (table.dataset.filters ?? "").split(",")) {
    const column = heads.indexOf(name);
    if (column < 0) continue;
    const cells = table.dataset.rows ? api.column(column).data().toArray() : api.column(column).nodes().toArray();
    const values = [...new Set(cells.map(said))].filter(Boolean).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    if (!values.length) continue;
    const select = element("select", { id: `${table.id}-${column}` }, new Option("all", ""), ...values.map(each => new Option(each, each)));
    select.addEventListener("change", () => api.column(column).search(select.value ? `^${plain(select.value)}$` : "", true, false).draw());
    place.append(element("span", {}, element("label", { htmlFor: select.id, textContent: name }), select));
    if (wanted.has(name)) { select.value = wanted.get(name); select.dispatchEvent(new Event("change")); }
  }
  for (const name of (table.dataset.ranges ?? "").split(",")) {
    const column = heads.indexOf(name);
    if (column < 0) continue;
    const ends = ["from", "to"].map(end => element("input", { type: "number", step: "any", ariaLabel: `${name} ${end}`, placeholder: end }));
    const inside = row => { const value = row[column]; return ends.every((end, i) => end.value === "" || (value != null && (i ? value <= +end.value : value >= +end.value))); };
    ends.forEach(end => end.addEventListener("input", () => { api.search.fixed(name, (_, row) => inside(row)); api.draw(); }));
    place.append(element("span", {}, name, ...ends));
  }
}

function dress(table, options) {
  const rows = options.data?.length ?? table.tBodies[0].rows.length;
  const paging = rows > 60;
  const api = new DataTable(table, { order: [], autoWidth: false, paging, pageLength: 50, info: rows > 8, searching: true,
    layout: { ...LAYOUT, topStart: rows > 8 || table.dataset.filters ? "search" : null, bottomEnd: paging ? "paging" : null, ...options.layout }, language: { search: "Search" }, ...options.given });
  filters(table, api);
  return api;
}

for (const table of $$("table.sortable")) {
  const api = dress(table, {});
  const beside = $$("li[data-row]");
  if (table.id === "board") api.on("draw", () => {
    const shown = new Set(api.rows({ search: "applied" }).nodes().toArray().map(row => row.dataset.row));
    beside.forEach(item => { item.hidden = !shown.has(item.dataset.row); });
  });
}

const samples = document.getElementById("samples-data");
if (samples) {
  const { columns, rows, shown } = JSON.parse(samples.textContent), pictured = new Set(shown), table = document.getElementById("samples");
  table.dataset.rows = "1";
  const render = (value, kind) => kind !== "display" || value == null ? value : pictured.has(value) ? `<a href="#sample-${Number(value)}">${Number(value)}</a>` : Number(value);
  dress(table, { data: rows, layout: { topEnd: ["info", { buttons: [{ extend: "csv", text: "CSV", filename: document.title }] }] }, given: {
    data: rows, deferRender: true,
    columns: columns.map((title, i) => ({ title, data: i, defaultContent: "", render: i ? DataTable.render.text() : render, className: title === "outcome" ? "text" : "" })),
  } });
}

// --- pictures of numbers ---------------------------------------------------------------------------------------------
for (const chart of $$(".chart"))
  window.vegaEmbed?.(chart.querySelector(".plot"), JSON.parse(chart.querySelector("script").textContent), { actions: false, renderer: "svg" }).catch(error => console.error(error));

// --- copying ---------------------------------------------------------------------------------------------------------
for (const button of $$("[data-copy]")) button.addEventListener("click", async () => {
  const code = button.parentElement.querySelector("code");
  try { await navigator.clipboard.writeText(code.textContent); }
  catch { getSelection().selectAllChildren(code); document.execCommand("copy"); }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
});

"use strict";
// Two cells on the images that both have: what bench.api.compared computes. Wald's interval with the paired variance (Agresti and Min
// 2005, equation 1, 1/2 added to each cell) and McNemar's exact test.
const Z = 1.959964;

// sample -> does it stand; of a row: in each of its cells, on the samples that all of them have
function stands(cell) {
  if (cell.cells) {
    const each = cell.cells.map(i => stands(BENCH.cells[i]));
    return new Map([...each[0].keys()].filter(s => each.every(one => one.has(s))).map(s => [s, each.every(one => one.get(s))]));
  }
  const bytes = Uint8Array.from(atob(cell.bits), letter => letter.charCodeAt(0));
  return new Map(BENCH.samples[cell.of].map((sample, i) => [sample, Boolean((bytes[i >> 3] >> (7 - (i & 7))) & 1)]));
}

function binomial(k, n) { // two-sided, p = 1/2
  if (!n) return 1;
  const least = Math.min(k, n - k);
  let log = -n * Math.LN2, sum = 0;
  for (let i = 0; i <= least; i++) { sum += Math.exp(log); log += Math.log(n - i) - Math.log(i + 1); }
  return 2 * least === n ? 1 : Math.min(1, 2 * sum);
}

function compared(a, b) {
  const one = stands(a), other = stands(b), common = [...one.keys()].filter(sample => other.has(sample)), n = common.length;
  const onlyA = common.filter(s => one.get(s) && !other.get(s)), onlyB = common.filter(s => !one.get(s) && other.get(s));
  const moreA = onlyA.length + 0.5, moreB = onlyB.length + 0.5, total = n + 2, middle = (moreB - moreA) / total;
  const spread = Z * Math.sqrt(Math.max(moreA + moreB - (moreB - moreA) ** 2 / total, 0)) / total;
  const share = map => 100 * common.filter(s => map.get(s)).length / n;
  return { n, a: share(one), b: share(other), difference: share(other) - share(one), low: 100 * (middle - spread), high: 100 * (middle + spread),
    onlyA, onlyB, p: binomial(onlyA.length, onlyA.length + onlyB.length) };
}

const inputs = ["a", "b"].map(id => document.getElementById(id)), result = document.getElementById("result");
const choices = [...BENCH.rows, ...BENCH.cells];
const picture = (choice, sample) => (choice.cells?.map(i => BENCH.cells[i]) ?? [choice]).find(cell => cell.shown.includes(sample));
const label = cell => cell.cells ? `${cell.name} (${cell.set})` : `${cell.key.slice(0, 10)} ${cell.name}${cell.set ? ` (${cell.set})` : ""}`;
document.getElementById("cells").append(...choices.map(cell => new Option(label(cell))));
const make = (name, properties = {}, ...inner) => { const made = Object.assign(document.createElement(name), properties); made.append(...inner); return made; };
const signed = value => (value >= 0 ? "+" : "") + value.toFixed(1);

function chosen(text) {
  const word = text.trim().split(" ")[0];
  return word ? choices.find(cell => cell.key === text.trim() || cell.key === word || label(cell) === text.trim()) ?? BENCH.cells.find(cell => word.length >= 6 && cell.key.startsWith(word)) : undefined;
}

function listed(samples, name, cell, other) {
  const list = make("p");
  samples.slice(0, 200).forEach(sample => {
    const of = picture(cell, sample) ?? picture(other, sample);
    list.append(of ? make("a", { href: `${of.page}#sample-${sample}`, textContent: sample }) : String(sample), " ");
  });
  if (samples.length > 200) list.append(`and ${samples.length - 200} more`);
  return [make("h3", { textContent: `Robust in ${name} alone: ${samples.length} images` }), list];
}

function pictures(samples, a, b) {
  const found = samples.flatMap(sample => [a, b].filter(each => picture(each, sample)).map(each => [sample, each])).slice(0, 24);
  if (!found.length) return [];
  const list = make("ul", { className: "pictures" }), robust = new Map([a, b].map(cell => [cell, stands(cell)]));
  for (const [sample, cell] of found) {
    const figure = make("figure"), folder = picture(cell, sample).page.replace(/\.html$/, "");
    for (const kind of ["clean", "adversarial", "difference"]) figure.append(make("img", { src: `${folder}/${sample}-${kind}.png`, alt: `sample ${sample}, ${kind}`, loading: "lazy" }), " ");
    figure.append(make("figcaption", { textContent: `sample ${sample} in ${cell === a ? "A" : "B"}: ${robust.get(cell).get(sample) ? "stands" : "broken or wrong"}` }));
    list.append(make("li", {}, figure));
  }
  return [make("h3", { textContent: "Images where they disagree" }), list];
}

function show() {
  const [a, b] = inputs.map(input => chosen(input.value));
  result.replaceChildren();
  if (!a || !b) { result.append(make("p", { textContent: `${BENCH.cells.length} attacked cells and ${BENCH.rows.length} rows (their per-image worst case); choose two by key or by words.` })); return; }
  history.replaceState(null, "", `#${new URLSearchParams({ a: a.key, b: b.key })}`);
  const found = compared(a, b);
  if (a.data !== b.data || !found.n) { result.append(make("p", { textContent: "They have no image in common: they are of other data, or of other samples." })); return; }
  const fact = (term, value) => make("div", {}, make("dt", { textContent: term }), make("dd", {}, value));
  const cell = each => make("a", { href: each.page, textContent: label(each) });
  result.append(make("p", {}, "A: ", cell(a), make("br"), "B: ", cell(b)));
  result.append(make("dl", { className: "headline" }, fact("robust in A, percent", found.a.toFixed(1)), fact("robust in B, percent", found.b.toFixed(1)),
    fact("B less A, points [95% interval]", `${signed(found.difference)} [${signed(found.low)}, ${signed(found.high)}]`), fact("McNemar's exact p", found.p.toPrecision(3)), fact("common images", String(found.n))));
  const apart = found.low > 0 || found.high < 0, rare = found.p < 0.05;
  const luck = apart && rare ? `${found.difference > 0 ? "B" : "A"} is the more robust one.`
    : apart !== rare ? "Too close to call: the interval and the exact test (at 5%) do not agree." : "The difference may be luck: the interval holds 0.";
  result.append(make("p", { className: "verdict-line", textContent: luck }));
  result.append(...listed(found.onlyA, "A", a, b), ...listed(found.onlyB, "B", b, a), ...pictures([...found.onlyA, ...found.onlyB], a, b));
}

const asked = new URLSearchParams(location.hash.slice(1));
for (const input of inputs) {
  const cell = choices.find(each => each.key === asked.get(input.id));
  if (cell) input.value = label(cell);
  input.addEventListener("input", show);
}
document.getElementById("swap").addEventListener("click", () => { [inputs[0].value, inputs[1].value] = [inputs[1].value, inputs[0].value]; show(); });
show();

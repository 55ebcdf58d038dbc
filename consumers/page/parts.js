// Small pieces of the page. Whatever comes from outside becomes text, never markup.
export const at = (id) => document.getElementById(id);

export function make(tag, text, classes) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (classes) made.className = classes;
  return made;
}

export function say(id, text) {
  const there = at(id);
  if (there.textContent !== text) there.textContent = text;
}

const whole = new Intl.NumberFormat("en");
export const count = (n) => (n === null || n === undefined ? "–" : whole.format(Math.round(n)));
export const share = (x) => (x === null || x === undefined ? "–" : x.toFixed(3));
export function seconds(s) {
  if (s === null || s === undefined) return "–";
  return s < 1 ? `${Math.round(s * 1000)} ms` : s < 120 ? `${s.toFixed(1)} s` : `${Math.round(s / 60)} min`;
}
export const money = (x, unit) => `${x.toFixed(2)}${unit ? ` ${unit}` : ""}`;
export const moment = (text) => `${text.slice(0, 10)} ${text.slice(11, 19)}`;

// Rows are made anew only when they differ: a reader's place and selection stay.
export function rows(id, cells, same = JSON.stringify(cells)) {
  const body = at(id);
  if (body.dataset.shown === same) return;
  body.dataset.shown = same;
  body.replaceChildren(
    ...cells.map((row) => {
      const made = make("tr");
      made.append(
        ...row.map((cell, n) => {
          const box = make(n === 0 ? "th" : "td");
          if (n === 0) box.scope = "row";
          if (cell instanceof Node) box.append(cell);
          else box.textContent = cell.text ?? cell;
          if (cell.number) box.className = "number";
          return box;
        }),
      );
      return made;
    }),
  );
}
export const number = (text) => ({ text, number: true });

export function sure(question) {
  const dialog = at("sure");
  say("sure-text", question);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true });
  });
}

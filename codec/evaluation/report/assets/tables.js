// Tables that sort by a click on a heading. Without this script they are plain tables in the order they were written.

/** Make a table sort. Numbers sort as numbers; what is not a number ("n/a", "lossless") comes last either way. */
function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = htmlNode("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      markSorted(table, column, direction);
      sortAgain(table);
    });
  });
}

function markSorted(table, column, direction) {
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", direction);
    else head.removeAttribute("aria-sort");
  });
}

/** Sort by the marked column, after a click or after the rows have changed. */
function sortAgain(table) {
  const column = [...table.tHead.rows[0].cells].findIndex((head) => head.hasAttribute("aria-sort"));
  if (column < 0) return;
  const head = table.tHead.rows[0].cells[column];
  const sign = head.getAttribute("aria-sort") === "ascending" ? 1 : -1;
  const text = (row) => row.cells[column].textContent;
  const value = (row) => Number.parseFloat(text(row).replace("\u2212", "-").replaceAll(",", ""));
  const numeric = head.classList.contains("n");
  const collator = new Intl.Collator("en", { numeric: true });
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    if (!numeric) return sign * collator.compare(text(a), text(b));
    const [x, y] = [value(a), value(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  });
  table.tBodies[0].append(...rows);
}

// A click on a heading sorts the table by that column: numbers by value, text by alphabet, what is empty last.
for (const table of document.querySelectorAll("table")) {
  const [headings, body] = [[...table.tHead.rows[0].cells], table.tBodies[0]];
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const isNumber = heading.classList.contains("number");
    const value = (row) => {
      const first = row.cells[column].childNodes[0];
      const text = first ? first.textContent.trim() : "";
      return isNumber ? parseFloat(text) : text;
    };
    const isEmpty = (found) => found === "" || Number.isNaN(found);
    const compare = (a, b) => (isNumber ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => isEmpty(a) - isEmpty(b) || (ascending ? compare(a, b) : compare(b, a)));
    body.append(...rows.map(([, row]) => row));
  }));
}

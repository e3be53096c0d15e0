// A heading becomes a button that sorts by its column: upwards, then downwards; what is no number, a dash, comes last.
document.documentElement.classList.add('sorts');
const number = text => parseFloat(text.replace('\u2212', '-').replace(/^[<\s]+|,/g, ''));
const text = (row, place) => row.cells[place].textContent.trim();
for (const table of document.querySelectorAll('table')) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  headings.forEach((heading, place) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener('click', () => {
      const sign = heading.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
      const rows = [...body.rows].map(row => [text(row, place), row]);
      const missing = cell => cell === '\u2013' || cell === '';
      const numeric = rows.every(([cell]) => missing(cell) || !isNaN(number(cell)));
      rows.sort(([a], [b]) => missing(a) - missing(b) || sign * (numeric && !missing(a)
        ? number(a) - number(b) : a.localeCompare(b, undefined, {numeric: true})));
      headings.forEach(other => other.removeAttribute('aria-sort'));
      heading.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      body.append(...rows.map(([, row]) => row));
    });
  });
}

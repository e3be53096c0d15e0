"""The style and the script of the page: kept as text in code, so that every way of packaging takes them along."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --note: #fff4d6;
  --link: #0969da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa5b1; --line: #3a424c; --paper: #11151a; --note: #3a2f10; --link: #6cb0ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 1rem; }
p, ul, dl, pre, caption { max-width: 72rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
a { color: var(--link); }
table { width: 100%; font-size: .9rem; border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
/* A shadow where more is to the right, which its end covers. */
.table { overflow-x: auto; background: right / 2rem 100% no-repeat local linear-gradient(to left, var(--paper) 50%,
  transparent), right / .8rem 100% no-repeat linear-gradient(to left, var(--soft), transparent); }
caption { caption-side: bottom; text-align: left; color: var(--soft); padding-top: .5rem; }
th, td { padding: .4rem .3rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, .words { text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: .9rem; vertical-align: bottom; }
tbody th { font-weight: 600; }
tbody th { overflow-wrap: anywhere; min-width: 8rem; }
thead button { font: inherit; color: inherit; background: none; border: 0; padding: 0; text-align: inherit;
  cursor: pointer; }
thead button:hover { text-decoration: underline; }
[aria-sort=ascending] button::after { content: " \\25B2"; }
[aria-sort=descending] button::after { content: " \\25BC"; }
p, dt { color: var(--soft); }
.mark { background: var(--note); border-radius: .4rem; padding: 0 .4rem; font-weight: 600; white-space: nowrap; }
.notes { background: var(--note); border-radius: .4rem; padding: .6rem .6rem .6rem 1.8rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
figure svg { display: block; width: 100%; height: auto; max-width: 30rem; }
figure.wide { grid-column: 1 / -1; }
figure.wide svg { max-width: 44rem; }
details { margin: 1rem 0; }
summary { cursor: pointer; font-weight: 600; }
code, pre { font: .875rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; padding: .7rem; border: 1px solid var(--line); border-radius: .4rem; }
:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
@media screen and (max-width: 64rem) {
  table, caption, tbody, thead, tr, th, td { display: block; text-align: left; }
  thead { display: none; }
  .sorts thead { display: block; }
  .sorts thead tr { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem; border: 0; }
  .sorts thead tr::before { content: "Sort by"; color: var(--soft); }
  .sorts thead th { border: 1px solid var(--line); border-radius: .4rem; padding: 0; }
  .sorts thead button { padding: .3rem .5rem; }
  tr { border: 1px solid var(--line); border-radius: .4rem; margin-bottom: .7rem; padding: .3rem 0; }
  th, td { border: 0; padding: .15rem .7rem; }
  td { display: flex; justify-content: space-between; gap: 1rem; }
  td::before { content: attr(data-label); color: var(--soft); }
  td > span { text-align: right; }
  caption { padding-bottom: .7rem; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; }
}
@page { size: A4 landscape; margin: 12mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #333; --line: #999; --paper: #fff; --note: #eee; --link: #000; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; }
  tr, figure, .notes { break-inside: avoid; }
  .table { overflow-x: visible; background: none; }
  table { font-size: 8.5pt; }
  thead th { font-size: 8pt; }
  th, td { padding: .25rem .35rem; }
  .figures { grid-template-columns: 1fr 1fr; }
}
"""

# A heading becomes a button that sorts by its column: upwards, then downwards; what is no number, a dash, comes last.
SCRIPT = """
document.documentElement.classList.add('sorts');
const number = text => parseFloat(text.replace('\\u2212', '-').replace(/^[<\\s]+|,/g, ''));
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
      const missing = cell => cell === '\\u2013' || cell === '';
      const numeric = rows.every(([cell]) => missing(cell) || !isNaN(number(cell)));
      rows.sort(([a], [b]) => missing(a) - missing(b) || sign * (numeric && !missing(a)
        ? number(a) - number(b) : a.localeCompare(b, undefined, {numeric: true})));
      headings.forEach(other => other.removeAttribute('aria-sort'));
      heading.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      body.append(...rows.map(([, row]) => row));
    });
  });
}
"""

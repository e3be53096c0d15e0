"""The style of the page: kept as text in code, so that every way of packaging takes it along."""

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --note: #fff4d6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa5b1; --line: #3a424c; --paper: #11151a; --note: #3a2f10; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; color: var(--soft); padding-top: .5rem; }
th, td { padding: .45rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: .9rem; }
tbody th { font-weight: 600; }
p, dt { color: var(--soft); }
.notes { background: var(--note); border-radius: .4rem; padding: .6rem .6rem .6rem 1.8rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
figure { margin: 0; }
figure svg { display: block; width: 100%; max-width: 30rem; height: auto; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); border-radius: .4rem; }
:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 44rem) {
  table, caption, tbody, tr, th, td { display: block; text-align: left; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { border: 1px solid var(--line); border-radius: .4rem; margin-bottom: .7rem; padding: .3rem 0; }
  th, td { border: 0; padding: .15rem .7rem; }
  td { display: flex; justify-content: space-between; gap: 1rem; white-space: nowrap; }
  td::before { content: attr(data-label); color: var(--soft); white-space: normal; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; }
}
"""

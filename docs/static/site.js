// What scrolls can be reached and scrolled with the keyboard.
function reachable() {
  for (const e of document.querySelectorAll('pre, .table-wrapper, .cell_output'))
    e.scrollWidth > e.clientWidth ? e.setAttribute('tabindex', 0) : e.removeAttribute('tabindex');
}
addEventListener('load', reachable);
addEventListener('resize', reachable);
document.addEventListener('toggle', reachable, true);

// Sphinx makes captions of the navigation headings and forgets their level.
addEventListener('DOMContentLoaded', () => {
  for (const e of document.querySelectorAll('p.caption[role=heading]')) e.setAttribute('aria-level', 2);
});

// Sphinx shows the text at a result's anchor, and stumbles where there is none, as at index entries: then the page's beginning.
addEventListener('DOMContentLoaded', () => {
  if (typeof Search === 'undefined') return;
  const text = Search.htmlToText;
  Search.htmlToText = (html, anchor) => { // a snippet is prose: no formulas, no code, nothing about running the page
    const page = new DOMParser().parseFromString(html, 'text/html');
    for (const e of page.querySelectorAll('.math, details, .signs, .highlight, .cell_output, table, .headerlink')) e.remove();
    return text(page.documentElement.outerHTML, anchor);
  };
  const summary = Search.makeSearchSummary;
  Search.makeSearchSummary = (page, words, anchor) => summary(page, words, anchor) ?? summary(page, words, '') ?? document.createElement('p');
});

'use strict';
// Grids of cards from the data in the page: sorted, filtered, walked through by keys.
const STEP = 48;
const data = JSON.parse(document.getElementById('data').textContent);
const make = (tag, has = {}, ...inside) => {
  const element = Object.assign(document.createElement(tag), has);
  element.append(...inside);
  return element;
};
const round = (x) => (Number.isInteger(x) ? String(x) : x.toFixed(3));

function card(item, grid) {
  const pictures = make('div', { className: 'pictures' });
  for (const i of item.images) {
    const { uri, name } = data.thumbnails[i];
    pictures.append(make('img', { src: uri, alt: name, width: 64, height: 64 }));
  }
  const words = make('p', { className: 'words' }, item.words);
  const facts = grid.numbers.map((name, i) => `${name} ${round(item.numbers[i])}`);
  const li = make('li', { tabIndex: -1 }, pictures, words);
  li.append(make('div', { className: 'facts' }, facts.join(', ')));
  return li;
}

function build(section, grid) {
  const list = section.querySelector('.grid');
  const sort = section.querySelector('select');
  const filter = section.querySelector('input');
  const count = section.querySelector('output');
  const more = section.querySelector('button');
  let found = [];
  let shown = 0;
  const text = (item) => item.words.toLowerCase();
  const grow = () => {
    const next = found.slice(shown, shown + STEP);
    list.append(...next.map((item) => card(item, grid)));
    shown += next.length;
    more.hidden = shown >= found.length;
    if (list.firstChild && !list.querySelector('[tabindex="0"]')) list.firstChild.tabIndex = 0;
  };
  const draw = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = grid.items.filter((item) => words.every((word) => text(item).includes(word)));
    if (sort.value) {
      const [column, way] = sort.value.split(' ').map(Number);
      found.sort((a, b) => way * (a.numbers[column] - b.numbers[column]));
    }
    count.textContent = `${found.length} of ${grid.items.length}`;
    list.replaceChildren();
    shown = 0;
    grow();
  };
  sort.addEventListener('change', draw);
  filter.addEventListener('input', draw);
  more.addEventListener('click', () => {
    const at = shown;
    grow();
    if (list.children[at]) step(list, list.children[at]);
  });
  list.addEventListener('keydown', (event) => walk(event, list));
  filter.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      filter.value = '';
      draw();
      if (list.firstChild) step(list, list.firstChild);
    }
  });
  draw();
}

function step(list, to) {
  for (const li of list.children) li.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

function walk(event, list) {
  const all = [...list.children];
  const at = all.indexOf(document.activeElement);
  if (at < 0) return;
  const top = all[at].offsetTop;
  const columns = all.filter((li) => li.offsetTop === all[0].offsetTop).length;
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  let to = at + (moves[event.key] || 0);
  if (event.key === 'Home') to = 0;
  if (event.key === 'End') to = all.length - 1;
  if (to === at || !all[to]) return;
  event.preventDefault();
  step(list, all[to]);
}

const sections = [...document.querySelectorAll('section')];
const current = () => {
  const inside = document.activeElement.closest('section');
  const passed = sections.filter((s) => s.getBoundingClientRect().top < 80);
  return inside || passed.at(-1) || sections[0];
};
const go = (section) => {
  if (!section) return;
  const heading = section.querySelector('h2');
  heading.tabIndex = -1;
  heading.focus();
  heading.scrollIntoView();
};
document.addEventListener('keydown', (event) => {
  const typing = event.target.matches('input, select, textarea');
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const here = current();
  const at = sections.indexOf(here);
  const acts = {
    '/': () => here.querySelector('input')?.focus(),
    s: () => here.querySelector('select')?.focus(),
    g: () => here.querySelector('.grid [tabindex="0"]')?.focus(),
    n: () => go(sections[at + 1]),
    p: () => go(sections[at - 1]),
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});
for (const section of sections) {
  const grid = data.grids[section.dataset.grid];
  if (grid) build(section, grid);
}

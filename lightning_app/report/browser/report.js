'use strict';

// The living part of the page. Text from files only ever becomes a textContent, and plotly gets numbers alone.
const StepsReport = (() => {
  const PAGE_ROWS = 50;
  const MAX_SVG_POINTS = 4000; // each is an element; up to here they are sharper than WebGL's, and sooner there
  const MAX_RINGS = 2000; // in view; more picks are dots, which are drawn many times faster
  const SETTLED_MS = 60; // a pointer that crosses points loads no curves
  const MARGIN = { l: 74, r: 14, t: 10, b: 46 };
  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

  const picked = new Set();
  let classTexts = [];
  let ranked = []; // all, by rank
  let shown = []; // those that pass the filters, by rank
  let rows = []; // those in the order of the table
  let drawn = [[], []]; // what the scatter's two traces hold
  let looked = null; // the example in the card
  let held = false; // the pointer doesn't change the card
  let sorting = { name: 'rank', down: false };
  let page = 0;
  let extent = null; // the scatter's axes with everything in view
  let settle = 0;
  let webgl = false;

  const at = (id) => document.getElementById(id);

  // ---- data: blocks of text in the page; what may never be looked at is parsed when it is

  const block = (id) => at(id).textContent;
  const examples = [];
  const studies = JSON.parse(block('studies')).map(({ texts, numbers }, number) => ({ ...texts, ...numbers, number, curves: null }));
  for (const study of studies) {
    study.path.forEach((path, i) => examples.push({
      id: examples.length, study, position: i, path, lowered: path.toLowerCase(), index: study.index[i],
      outcome: study.outcome[i], steps: study.steps[i], x: Math.max(study.steps[i] ?? study.limit, 1), rank: study.rank[i],
      label: study.label[i], before: study.before[i], initial: study.initial[i], final: study.final[i],
      thumbnail: study.thumbnail[i],
    }));
  }
  let thumbnails = null; // a data URI a line, empty where an image can't be read

  function thumbnailOf({ thumbnail }) {
    if (thumbnail === null) return '';
    thumbnails ??= block('thumbnails').split('\n');
    return thumbnails[thumbnail];
  }

  // { x: steps, y: losses }; null where no curve is kept.
  function curveOf({ study, position }) {
    if (study.curveSteps === null) return null;
    study.curves ??= block(`curves-${study.number}`).split('\n');
    const curve = JSON.parse(study.curves[position]);
    if (curve === null) return null;
    const [length, y] = curve;
    return { x: [...study.curveSteps.filter((step) => step < length), length], y };
  }

  // ---- text

  const count = (n) => n.toLocaleString('en-US', { maximumFractionDigits: 20 });
  const loss = (x) => (Number.isFinite(x) ? x.toPrecision(3) : String(x));
  const orDash = (value, text) => (value === null ? '–' : text(value));
  const stepsText = (e) => (e.steps === null ? `not reached in ${count(e.study.limit)}` : count(e.steps));

  // The name of an example's class, `label` or `before`; null where it isn't known.
  function className(example, which) {
    const index = example[which];
    if (index === null) return null;
    const name = example.study.classes[index];
    return name === undefined ? `class ${index}` : `${name} (${index})`;
  }

  function csv(some) {
    const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const plain = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text); // a spreadsheet would run it as a formula
    const cell = (value) => (typeof value === 'string' ? quoted(plain(value)) : String(value ?? ''));
    const header = 'study,example_index,path,total_steps_to_epsilon,universal_difficulty_rank,outcome,label,'
      + 'predicted_before,initial_loss,final_loss';
    const lines = some.map((e) => [
      e.study.name, e.index, e.path, e.steps ?? -1, e.rank, e.outcome, e.label, e.before, e.initial, e.final,
    ].map(cell).join(','));
    return [header, ...lines, ''].join('\n');
  }

  // ---- elements

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function button(text, pressed) {
    const made = element('button', text);
    made.type = 'button';
    made.addEventListener('click', pressed);
    return made;
  }

  function checkbox(checked, changed) {
    const made = element('input');
    made.type = 'checkbox';
    made.checked = checked;
    made.addEventListener('change', () => changed(made.checked));
    return made;
  }

  // ---- filters

  function buildFilters() {
    const counts = new Map();
    for (const e of ranked) {
      const entry = counts.get(e.outcome) ?? { n: 0, missed: e.steps === null };
      entry.n += 1;
      counts.set(e.outcome, entry);
    }
    for (const [outcome, { n, missed }] of [...counts].sort((a, b) => b[1].n - a[1].n)) {
      const label = element('label');
      const box = checkbox(true, applyFilters);
      box.value = outcome;
      label.append(box, element('span', '', missed ? 'swatch missed' : 'swatch'), `${outcome} (${count(n)})`);
      at('outcomes').append(label);
    }
    const inOrder = new Intl.Collator('en', { numeric: true }).compare;
    classTexts = [...new Set(ranked.filter((e) => e.label !== null).map((e) => className(e, 'label')))].sort(inOrder);
    const places = new Map(classTexts.map((text, i) => [text, i]));
    for (const e of ranked) e.classPlace = places.get(className(e, 'label'));
    fillSelect(at('class'), 'All classes', classTexts);
    fillSelect(at('study'), 'All studies', studies.map((s) => s.name));
    at('class-field').hidden = classTexts.length < 2;
    at('study-field').hidden = studies.length < 2;
  }

  // Options are told apart by their place: a name may be anything, even empty.
  function fillSelect(select, all, texts) {
    select.append(...[all, ...texts].map((text, i) => {
      const option = element('option', text);
      option.value = String(i - 1);
      return option;
    }));
    select.addEventListener('change', applyFilters);
  }

  function applyFilters() {
    const outcomes = new Set([...at('outcomes').querySelectorAll('input:checked')].map((box) => box.value));
    const [studyPlace, classPlace] = [Number(at('study').value), Number(at('class').value)];
    const words = at('path').value.toLowerCase();
    shown = ranked.filter((e) => outcomes.has(e.outcome)
      && (studyPlace < 0 || e.study.number === studyPlace)
      && (classPlace < 0 || e.classPlace === classPlace)
      && (words === '' || e.lowered.includes(words)));
    at('shown').textContent = `Showing ${count(shown.length)} of ${count(examples.length)} examples`;
    sortRows();
    drawScatter();
  }

  // ---- scatter

  // Plotly's own needs: without these extensions its WebGL traces stay empty.
  function webglWorks() {
    const context = document.createElement('canvas').getContext('webgl');
    return context !== null && context.getExtension('OES_element_index_uint') !== null;
  }

  function findExtent() {
    let [most, low, high] = [10, Infinity, -Infinity]; // a decade at least: within one, axes have odd ticks
    for (const e of examples) {
      most = Math.max(most, e.x);
      low = Math.min(low, e.rank);
      high = Math.max(high, e.rank);
    }
    const room = (high - low) * 0.03 || 1;
    const width = Math.log10(most) * 0.03 + 0.03;
    return { x: [-width, Math.log10(most) + width], y: [low - room, high + room] };
  }

  function colours() {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(`--${name}`).trim();
  }

  function axis(title, colour, more) {
    return {
      title: { text: title, font: { size: 13 } }, color: colour('faint'), gridcolor: colour('grid'), zeroline: false,
      linecolor: colour('line'), tickfont: { size: 11 }, ...more,
    };
  }

  function layout(colour, more) {
    return {
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false, autosize: true,
      font: { family: FONT, color: colour('ink') }, ...more,
    };
  }

  // As many ticks as have room for their numbers.
  function logAxis(title, colour, width, more) {
    return axis(title, colour, { type: 'log', tickformat: ',', nticks: Math.max(3, Math.floor(width / 110)), ...more });
  }

  function trace(points, marker) {
    const same = { marker: { opacity: marker.opacity } }; // what plotly selects is picked, and marked by us
    return {
      type: webgl ? 'scattergl' : 'scatter', mode: 'markers', hoverinfo: 'none', marker, selected: same, unselected: same,
      x: Float64Array.from(points, (e) => e.x), y: Float64Array.from(points, (e) => e.rank),
    };
  }

  function drawScatter() {
    const colour = colours();
    const every = webgl ? 1 : Math.ceil(shown.length / MAX_SVG_POINTS);
    const some = shown.filter((e, i) => i % every === 0);
    drawn = [some.filter((e) => e.steps !== null), some.filter((e) => e.steps === null)];
    at('thinned').textContent = every > 1
      ? `Without WebGL the scatter draws ${count(some.length)} of the ${count(shown.length)}; the table has all.` : '';
    const [size, opacity] = examples.length > MAX_SVG_POINTS ? [4, 0.35] : [8, 0.75];
    const limits = [...new Set(shown.filter((e) => e.steps === null).map((e) => e.x))];
    const epsilons = [...new Set(studies.map((s) => s.epsilon))];
    // Copied below: plotly changes the arrays it is given.
    const range = at('plot').layout ?? { xaxis: { range: extent.x }, yaxis: { range: extent.y } };
    const goal = epsilons.length === 1 && epsilons[0] !== null ? `a loss of ${epsilons[0]}` : 'epsilon';
    Plotly.react('plot', [
      trace(drawn[0], { color: colour('reached'), size, symbol: 'circle', opacity }),
      trace(drawn[1], { color: colour('missed'), size: size + 4, symbol: 'triangle-right-open', opacity: 1, line: { width: 1.5 } }),
    ], layout(colour, {
      margin: MARGIN, dragmode: dragMode(), hovermode: 'closest', hoverdistance: 20,
      xaxis: logAxis(`SGD steps to ${goal}`, colour, at('plot').clientWidth, { range: [...range.xaxis.range] }),
      yaxis: axis('Universal difficulty rank (1 = easiest)', colour, { range: [...range.yaxis.range], tickformat: ',' }),
      newselection: { line: { color: colour('ink') } },
      shapes: limits.map((x) => ({
        type: 'line', x0: x, x1: x, y0: 0, y1: 1, yref: 'paper', layer: 'below',
        line: { color: colour('missed'), width: 1, dash: 'dot' },
      })),
    }), { displayModeBar: false, responsive: true, displaylogo: false });
  }

  function dragMode() {
    const value = at('dragging').querySelector('input:checked').value;
    return value === 'false' ? false : value; // false: a finger scrolls the page
  }

  function listenToScatter() {
    const plot = at('plot');
    const pointed = (event) => drawn[event.points[0].curveNumber]?.[event.points[0].pointNumber];
    plot.on('plotly_hover', (event) => { if (!held) look(pointed(event)); });
    plot.on('plotly_click', (event) => {
      const example = pointed(event);
      look(example, !(held && example === looked));
      at('scatter').focus({ preventScroll: true }); // so that the arrow keys go on from there
    });
    plot.on('plotly_selected', (event) => { if (event?.range || event?.lassoPoints) pickInside(event); });
    plot.on('plotly_relayouting', () => { layer('marks'); layer('ring'); });
    plot.on('plotly_afterplot', () => { drawPicks(); drawRing(); });
    plot.on('plotly_doubleclick', () => setView(extent.x, extent.y));
  }

  function setView(x, y) {
    Plotly.relayout('plot', { 'xaxis.range': [...x], 'yaxis.range': [...y] });
  }

  // By place rather than by plotly's points, which without WebGL are only some of those shown.
  function pickInside({ range, lassoPoints }) {
    const [xs, ys] = range ? [range.x.map(Math.log10), range.y] : [lassoPoints.x.map(Math.log10), lassoPoints.y];
    const between = (value, [a, b]) => value >= Math.min(a, b) && value <= Math.max(a, b);
    const inside = range ? (x, y) => between(x, xs) && between(y, ys) : (x, y) => insidePolygon(x, y, xs, ys);
    for (const e of shown) if (inside(Math.log10(e.x), e.rank)) picked.add(e.id);
    Plotly.update('plot', { selectedpoints: null }, { selections: [] });
    picksChanged();
  }

  // Even-odd rule: a ray from the point crosses the outline an odd number of times.
  function insidePolygon(x, y, xs, ys) {
    let inside = false;
    for (let i = 0, j = xs.length - 1; i < xs.length; j = i, i += 1) {
      if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
    }
    return inside;
  }

  // Marks on canvases of our own: plotly would draw all points again for each, and the ring moves without the picks.
  function layer(name) {
    const [canvas, plot, sharp] = [at(name), at('plot'), window.devicePixelRatio || 1];
    canvas.width = plot.clientWidth * sharp; // which clears it too
    canvas.height = plot.clientHeight * sharp;
    const pen = canvas.getContext('2d', { willReadFrequently: true }); // in memory: no way over a slow or missing GPU
    pen.scale(sharp, sharp);
    pen.strokeStyle = pen.fillStyle = colours()('mark');
    return pen;
  }

  // Where on the plot examples are; null for those out of view.
  function placing() {
    const plot = at('plot');
    const [[x0, x1], [y0, y1]] = [plot.layout.xaxis.range, plot.layout.yaxis.range];
    const [w, h] = [plot.clientWidth - MARGIN.l - MARGIN.r, plot.clientHeight - MARGIN.t - MARGIN.b];
    return (e) => {
      const [x, y] = [((Math.log10(e.x) - x0) / (x1 - x0)) * w, ((y1 - e.rank) / (y1 - y0)) * h];
      return x < -2 || x > w + 2 || y < -2 || y > h + 2 ? null : [MARGIN.l + x, MARGIN.t + y];
    };
  }

  function ring(pen, [x, y], radius, thickness) {
    pen.beginPath();
    pen.lineWidth = thickness;
    pen.arc(x, y, radius, 0, 7);
    pen.stroke();
  }

  function drawPicks() {
    const pen = layer('marks');
    const places = picked.size ? shown.filter((e) => picked.has(e.id)).map(placing()).filter((place) => place) : [];
    if (places.length > MAX_RINGS) for (const [x, y] of places) pen.fillRect(x - 1, y - 1, 2, 2);
    else for (const place of places) ring(pen, place, 5, 1.5);
  }

  function drawRing() {
    const pen = layer('ring');
    const place = shown.includes(looked) ? placing()(looked) : null;
    if (place) ring(pen, place, 9, 2.5);
  }

  function scatterKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
    const { key } = event;
    const place = shown.indexOf(looked);
    const last = shown.length - 1;
    const moves = new Map([['ArrowLeft', Math.max(place - 1, 0)], ['ArrowRight', Math.min(place + 1, last)], ['Home', 0], ['End', last]]);
    if (moves.has(key) && last >= 0) {
      look(shown[moves.get(key)], true);
      at('said').textContent = `${looked.path}, ${looked.outcome}, steps ${stepsText(looked)}, rank ${count(looked.rank)}`;
    } else if ((key === 'Enter' || key === ' ') && place >= 0) {
      setPicked(looked, !picked.has(looked.id));
      at('said').textContent = picked.has(looked.id) ? 'picked' : 'no longer picked';
    } else if (key === '+' || key === '-' || key === '0') {
      zoomByKey(key);
    } else if (key === 'Escape' && held) {
      look(looked); // no longer held: the pointer changes the card again
    } else {
      return;
    }
    event.preventDefault();
  }

  function zoomByKey(key) {
    if (key === '0') { setView(extent.x, extent.y); return; }
    const { xaxis, yaxis } = at('plot').layout;
    const scaled = ([a, b], middle) => [a, b].map((end) => middle + (end - middle) * (key === '+' ? 0.6 : 1 / 0.6));
    const middle = ([a, b]) => (a + b) / 2;
    setView(
      scaled(xaxis.range, looked ? Math.log10(looked.x) : middle(xaxis.range)),
      scaled(yaxis.range, looked ? looked.rank : middle(yaxis.range)),
    );
  }

  // ---- card

  function look(example, hold = false) {
    held = hold;
    at('release').hidden = !held;
    if (!example || example === looked) return;
    looked = example;
    at('card-empty').hidden = true;
    at('card-full').hidden = false;
    at('card-path').textContent = example.path;
    showThumbnail(example);
    showFacts(example);
    showPickButton();
    for (const row of at('examples').tBodies[0].rows) row.classList.toggle('looked-at', row.dataset.id === String(example.id));
    drawRing();
    at('curve').style.visibility = 'hidden';
    clearTimeout(settle);
    settle = setTimeout(() => showCurve(example), SETTLED_MS);
  }

  function showThumbnail(example) {
    const [image, uri] = [at('thumbnail'), thumbnailOf(example)];
    image.hidden = uri === '';
    at('no-thumbnail').hidden = uri !== '';
    image.alt = `Thumbnail of ${example.path}`;
    image.classList.toggle('tiny', uri.startsWith('data:image/png'));
    if (uri) image.src = uri;
    else image.removeAttribute('src');
  }

  function showFacts(e) {
    const metadata = [
      ['True class', orDash(className(e, 'label'), String)],
      ['Predicted before', orDash(className(e, 'before'), String)],
      ['Outcome', e.outcome],
      ['Steps', stepsText(e)],
      ['Rank', count(e.rank)],
      ['Initial loss', orDash(e.initial, loss)],
      ['Final loss', orDash(e.final, loss)],
    ];
    if (studies.length > 1) metadata.unshift(['Study', e.study.name]);
    at('metadata').replaceChildren(...metadata.flatMap(([name, text]) => [element('dt', name), element('dd', text)]));
  }

  function showCurve(example) {
    const curve = curveOf(example);
    at('curve').hidden = curve === null;
    at('curve-note').textContent = curve === null ? 'no loss curve kept' : 'Loss curve; dotted: thresholds';
    if (curve) drawCurve(example, curve);
  }

  async function drawCurve(example, { x, y }) {
    const steps = x.at(-1);
    const colour = colours();
    const lines = example.study.thresholds.map((level) => ({
      type: 'line', xref: 'paper', x0: 0, x1: 1, y0: level, y1: level, layer: 'below',
      line: { color: colour('faint'), width: level === example.study.epsilon ? 1.5 : 0.5, dash: 'dot' },
    }));
    await Plotly.react('curve', [{
      type: 'scatter', mode: steps > 10 ? 'lines' : 'lines+markers', x, y, hoverinfo: 'skip',
      line: { color: colour(example.steps === null ? 'missed' : 'reached'), width: 2 }, marker: { size: 5 },
    }], layout(colour, {
      margin: { l: 52, r: 8, t: 6, b: 38 }, height: 190, shapes: lines,
      xaxis: logAxis('Step', colour, at('curve').clientWidth, {}),
      yaxis: axis('Loss', colour, { type: 'log', dtick: 1, exponentformat: 'power' }),
    }), { staticPlot: true, responsive: true });
    at('curve').style.visibility = 'visible';
    at('curve').setAttribute('aria-label', `Loss from ${loss(y[0] ?? NaN)} to ${loss(y.at(-1) ?? NaN)} over ${count(steps)} steps`);
  }

  // ---- picks

  function setPicked(example, pick) {
    if (pick) picked.add(example.id);
    else picked.delete(example.id);
    picksChanged();
  }

  function picksChanged() {
    at('picked').textContent = `${count(picked.size)} picked`;
    at('download').disabled = picked.size === 0;
    setDisabled(at('clear'), picked.size === 0);
    for (const row of at('examples').tBodies[0].rows) {
      if (row.dataset.id) row.querySelector('input').checked = picked.has(Number(row.dataset.id));
    }
    showPickButton();
    drawPicks();
  }

  // A button that is pressed keeps the focus, which one that is `disabled` would lose.
  function setDisabled(button, disabled) {
    button.setAttribute('aria-disabled', String(disabled));
  }

  function showPickButton() {
    if (!looked) return;
    at('pick').textContent = picked.has(looked.id) ? 'Unpick this example' : 'Pick this example';
  }

  function download() {
    const link = element('a');
    link.href = URL.createObjectURL(new Blob([csv(examples.filter((e) => picked.has(e.id)))], { type: 'text/csv' }));
    link.download = 'picked_examples.csv';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // ---- table of examples

  const COLUMNS = [
    { name: 'study', title: 'Study', value: (e) => (studies.length > 1 ? e.study.name : null), text: String },
    { name: 'index', title: 'Index', number: true, value: (e) => e.index, text: count },
    { name: 'path', title: 'Path', value: (e) => e.path, text: String },
    { name: 'label', title: 'True class', value: (e) => className(e, 'label'), text: String },
    { name: 'before', title: 'Predicted before', value: (e) => className(e, 'before'), text: String },
    { name: 'outcome', title: 'Outcome', value: (e) => e.outcome, text: String },
    { name: 'steps', title: 'Steps', number: true, value: (e) => e.steps ?? Infinity, text: (n) => (n === Infinity ? 'not reached' : count(n)) },
    { name: 'rank', title: 'Rank', number: true, value: (e) => e.rank, text: count },
    { name: 'initial', title: 'Initial loss', number: true, value: (e) => e.initial, text: loss },
    { name: 'final', title: 'Final loss', number: true, value: (e) => e.final, text: loss },
  ];
  let columns = COLUMNS;

  function buildTable() {
    columns = COLUMNS.filter(({ value }) => examples.some((e) => value(e) !== null));
    const head = at('examples').tHead.rows[0];
    head.append(element('th', 'Pick'), ...columns.map((column) => {
      const cell = element('th', undefined, column.number ? 'number' : '');
      cell.append(button('', () => {
        sorting = { name: column.name, down: sorting.name === column.name && !sorting.down };
        sortRows();
      }));
      return cell;
    }));
    for (const cell of head.cells) cell.scope = 'col';
  }

  function sortRows() {
    const { value } = columns.find((column) => column.name === sorting.name);
    const direction = sorting.down ? -1 : 1;
    const keyed = shown.map((e) => [value(e), e]);
    keyed.sort(([a, e], [b, f]) => {
      if (a === b) return e.id - f.id;
      if (a === null || b === null) return a === null ? 1 : -1; // what isn't known comes last either way
      return a < b ? -direction : direction;
    });
    rows = keyed.map(([, e]) => e);
    page = 0;
    columns.forEach((column, i) => {
      const cell = at('examples').tHead.rows[0].cells[i + 1];
      const mark = column.name !== sorting.name ? '' : sorting.down ? ' ▼' : ' ▲';
      cell.firstChild.replaceChildren(column.title, element('span', mark));
      cell.firstChild.lastChild.ariaHidden = 'true';
      if (mark) cell.ariaSort = sorting.down ? 'descending' : 'ascending';
      else cell.removeAttribute('aria-sort');
    });
    showPage();
  }

  function showPage() {
    const pages = Math.max(Math.ceil(rows.length / PAGE_ROWS), 1);
    const some = rows.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS);
    at('examples').tBodies[0].replaceChildren(...(some.length ? some.map(tableRow) : [emptyRow()]));
    at('page').textContent = `Page ${count(page + 1)} of ${count(pages)}`;
    setDisabled(at('previous'), page === 0);
    setDisabled(at('next'), page >= pages - 1);
  }

  function emptyRow() {
    const row = element('tr');
    const cell = element('td', 'no example passes the filters', 'note');
    cell.colSpan = columns.length + 1;
    row.append(cell);
    return row;
  }

  function tableRow(example) {
    const row = element('tr', undefined, example === looked ? 'looked-at' : '');
    row.dataset.id = example.id;
    const box = checkbox(picked.has(example.id), (checked) => setPicked(example, checked));
    box.setAttribute('aria-label', `Pick ${example.path}`);
    const first = element('td');
    first.append(box);
    row.append(first, ...columns.map(({ name, number, value, text }) => {
      if (name !== 'path') return element('td', orDash(value(example), text), number ? 'number' : 'text');
      const cell = element('td', undefined, 'path');
      cell.append(button(example.path, () => lookFromTable(example)));
      return cell;
    }));
    return row;
  }

  function bringIntoView(seen) {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    seen.scrollIntoView({ block: 'nearest', behavior: calm ? 'auto' : 'smooth' });
  }

  function lookFromTable(example) {
    look(example, true);
    at('card').focus({ preventScroll: true });
    bringIntoView(at('card'));
  }

  function release() {
    look(looked, false);
    at('card').focus({ preventScroll: true }); // the button is gone
  }

  function turn(by) {
    const next = page + by;
    if (next < 0 || next * PAGE_ROWS >= rows.length) return;
    page = next;
    showPage();
    bringIntoView(at('examples').tHead);
  }

  // ---- start

  function listen() {
    let typing = 0;
    at('filters').addEventListener('submit', (event) => event.preventDefault());
    at('path').addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(applyFilters, 150); });
    at('scatter').addEventListener('keydown', scatterKey);
    at('dragging').addEventListener('change', () => Plotly.relayout('plot', { dragmode: dragMode() }));
    at('all-in-view').addEventListener('click', () => setView(extent.x, extent.y));
    at('pick').addEventListener('click', () => setPicked(looked, !picked.has(looked.id)));
    at('release').addEventListener('click', release);
    at('pick-all').addEventListener('click', () => { for (const e of shown) picked.add(e.id); picksChanged(); });
    at('clear').addEventListener('click', () => { picked.clear(); picksChanged(); });
    at('download').addEventListener('click', download);
    at('previous').addEventListener('click', () => turn(-1));
    at('next').addEventListener('click', () => turn(1));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      drawScatter();
      if (looked) showCurve(looked);
    });
  }

  function start() {
    if (examples.length === 0) {
      at('notice').textContent = 'This page has no examples.';
      at('notice').classList.add('said');
      return;
    }
    at('notice').hidden = true;
    at('living').hidden = false; // before the plots, which need its size
    ranked = [...examples].sort((a, b) => a.rank - b.rank || a.id - b.id);
    webgl = examples.length > MAX_SVG_POINTS && webglWorks();
    extent = findExtent();
    const touch = matchMedia('(pointer: coarse)').matches;
    at('dragging').querySelector(`[value=${touch ? 'false' : 'zoom'}]`).checked = true;
    buildFilters();
    buildTable();
    applyFilters();
    listenToScatter();
    listen();
    picksChanged();
  }

  start(); // at the end of the page, after the data
  return Object.freeze({ examples });
})();

'use strict';

// What the page knows: its data files call StepsReport.study and StepsReport.curves. Nothing here touches what is seen.
const StepsReport = (() => {
  const studies = [];
  const examples = [];
  const curveFiles = new Map(); // 'study-file' -> { loaded: Promise, curves }
  const pageToken = document.querySelector('meta[name="token"]').content; // of the run that wrote the page
  const asked = document.querySelectorAll('script[src^="report/study-"]').length;
  let strangers = 0;

  function study(number, token, data) {
    if (token !== pageToken) { strangers += 1; return; }
    data.number = number;
    studies.push(data);
    data.path.forEach((path, i) => examples.push({
      id: examples.length, study: data, position: i, path, lowered: path.toLowerCase(), index: data.index[i],
      outcome: data.outcome[i], steps: data.steps[i], x: Math.max(data.steps[i] ?? data.limit, 1), rank: data.rank[i],
      label: data.label[i], before: data.before[i], initial: data.initial[i], final: data.final[i],
      thumbnail: data.thumbnail[i],
    }));
  }

  // Why the page can't be shown: its data are of another run, or missing. Null: they are all here.
  function wrong() {
    if (strangers) return 'report.html and the folder report/ are not of the same run.';
    return studies.length < asked ? 'A file is missing: the folder report/ must lie beside report.html.' : null;
  }

  function curves(studyNumber, fileNumber, token, list) {
    if (token === pageToken) curveFiles.get(`${studyNumber}-${fileNumber}`).curves = list;
  }

  // A script element, since a page from disk may not fetch; each file is loaded once, or again after it failed.
  function curveFile(key) {
    const file = curveFiles.get(key) ?? { curves: null };
    if (!curveFiles.has(key)) {
      curveFiles.set(key, file);
      file.loaded = new Promise((done) => {
        const script = document.createElement('script');
        script.onload = script.onerror = () => {
          if (file.curves === null) {
            curveFiles.delete(key);
            script.remove();
          }
          done();
        };
        script.src = `report/curves/${key}.js`;
        document.head.append(script);
      });
    }
    return file;
  }

  // { x: steps, y: losses }; null where no curve is kept, undefined where its file can't be loaded.
  async function loadCurve({ study: { number, curvesAFile, curveSteps }, position }) {
    const file = curveFile(`${number}-${Math.floor(position / curvesAFile)}`);
    await file.loaded;
    if (file.curves === null) return undefined;
    const curve = file.curves[position % curvesAFile] ?? null;
    if (curve === null) return null;
    const [length, y] = curve;
    return { x: [...curveSteps.filter((step) => step < length), length], y };
  }

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

  return Object.freeze({
    study, curves, wrong, studies, examples, loadCurve, className, csv, text: { count, loss, orDash, stepsText },
  });
})();

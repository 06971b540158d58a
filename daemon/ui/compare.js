// Original and result over each other, with a slider between them.
//
// Both layers show the same region: the result is the report's `crop` times its scale, so the original (the browser turns it
// upright, as the device did) is blown up and moved until its crop fills the frame.

import { el } from './dom.js';
import { t } from './texts.js';

const KEY_STEP = 2; // percent of the width for an arrow key

/** Ready to be put into the page. `report` null: the original is shown whole, without alignment. */
export function compare({ originalUrl, resultUrl, report }) {
  const before = el('img', { src: originalUrl, alt: t('before'), draggable: 'false' });
  const after = el('img', { src: resultUrl, alt: t('after'), draggable: 'false' });
  const beforeLayer = el('div', { class: 'layer before' }, before);
  const afterLayer = el('div', { class: 'layer after' }, after);
  const range = el('input', { type: 'range', class: 'unseen', min: 0, max: 100, step: KEY_STEP, value: 50, 'aria-label': t('slider') });
  const frame = el(
    'div',
    { class: 'frame' },
    beforeLayer,
    afterLayer,
    range,
    el('span', { class: 'tag left', 'aria-hidden': 'true' }, t('before')),
    el('span', { class: 'tag right', 'aria-hidden': 'true' }, t('after')),
    el('span', { class: 'handle', 'aria-hidden': 'true' }),
  );
  const note = el('p', { class: 'hint', role: 'status' }, report?.crop ? '' : t('wholePhoto'));

  const ratio = (w, h) => frame.style.setProperty('--ratio', w / h);
  if (report?.crop) {
    ratio(report.crop.width, report.crop.height);
    align(before, report);
  } else {
    beforeLayer.classList.add('whole');
    after.addEventListener('load', () => ratio(after.naturalWidth, after.naturalHeight));
  }
  before.addEventListener('error', () => {
    beforeLayer.hidden = true;
    note.textContent = t('noOriginal');
    move(0);
  });
  after.addEventListener('error', () => {
    afterLayer.hidden = true;
    note.textContent = t('noResult');
  });

  /** `percent` of the width is the original's. */
  function move(percent) {
    const p = Math.min(100, Math.max(0, percent));
    frame.style.setProperty('--split', `${p}%`);
    range.value = p;
  }
  const follow = (e) => {
    const box = frame.getBoundingClientRect();
    move((100 * (e.clientX - box.left)) / box.width);
  };
  frame.addEventListener('pointerdown', (e) => {
    if (e.button !== 0) return;
    frame.setPointerCapture(e.pointerId);
    follow(e);
    range.focus({ preventScroll: true });
    e.preventDefault();
  });
  frame.addEventListener('pointermove', (e) => frame.hasPointerCapture(e.pointerId) && follow(e));
  range.addEventListener('input', () => move(Number(range.value)));
  move(50);
  return el('figure', { class: 'compare' }, frame, note);
}

/** The original's crop fills the frame: sizes in percent of the frame, so no pixel is measured and any screen fits. */
function align(img, { crop, photo }) {
  img.style.width = `${(100 * photo.width) / crop.width}%`;
  img.style.height = `${(100 * photo.height) / crop.height}%`;
  img.style.left = `${(-100 * crop.x) / crop.width}%`;
  img.style.top = `${(-100 * crop.y) / crop.height}%`;
}

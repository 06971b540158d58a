// Photos on their way in: chosen, dropped, from a phone's camera, or captured by the device.

import { api } from './api.js';
import { $, el, setText } from './dom.js';
import { t } from './texts.js';

/** The contract's batch is 1..=10. */
const MOST = 10;

export class Sender {
  /** `onJobs(jobs)` gets what was started, in the order of the photos. */
  constructor(onJobs) {
    this.onJobs = onJobs;
    this.busy = false;
    for (const id of ['file', 'snap']) {
      $(id).addEventListener('change', (e) => {
        const files = [...e.target.files];
        e.target.value = ''; // the same file may be chosen again
        this.send(files);
      });
    }
    this.listenForDrops();
  }

  listenForDrops() {
    const zone = $('desk');
    let depth = 0;
    const over = (on) => $('drop').classList.toggle('over', on);
    zone.addEventListener('dragenter', (e) => {
      e.preventDefault();
      depth += 1;
      over(true);
    });
    zone.addEventListener('dragleave', () => {
      depth -= 1;
      if (depth <= 0) over(false);
    });
    zone.addEventListener('dragover', (e) => e.preventDefault());
    zone.addEventListener('drop', (e) => {
      e.preventDefault();
      depth = 0;
      over(false);
      this.send([...e.dataTransfer.files]);
    });
  }

  get eye() {
    return document.querySelector('input[name=eye]:checked')?.value ?? '';
  }

  /** Each photo is stored first, then all are submitted together; a refused photo does not hold up the others. */
  async send(files) {
    if (this.busy || files.length === 0) return;
    this.clear();
    if (files.length > MOST) this.refuse('', { message: t('tooMany') });
    const few = files.slice(0, MOST);
    await this.work(async () => {
      const stored = [];
      for (const [i, file] of few.entries()) {
        const tell = (percent) => this.tell(few.length > 1 ? t('sending', { n: i + 1, all: few.length, percent }) : t('sendingOne', { percent }), percent);
        tell(0);
        try {
          stored.push(await api.upload(file, tell));
        } catch (e) {
          this.refuse(file.name, e);
        }
      }
      if (stored.length === 0) return;
      this.tell(t('submitting'), 100);
      const ids = stored.map((p) => p.id);
      this.started(ids.length === 1 ? [await api.submit(ids[0], this.eye)] : await api.batch(ids, this.eye));
    });
  }

  async capture(camera) {
    if (this.busy) return;
    this.clear();
    await this.work(async () => {
      this.tell(t('capturing'), null);
      const { job } = await api.capture(camera, this.eye);
      if (job) this.started([job]);
    });
  }

  /** The next photo may be of the other eye: a label that nobody chose is worse than none. */
  started(jobs) {
    document.querySelector('input[name=eye][value=""]').checked = true;
    this.onJobs(jobs);
  }

  async work(task) {
    this.busy = true;
    $('new').toggleAttribute('data-busy', true);
    try {
      await task();
    } catch (e) {
      this.refuse('', e);
    } finally {
      this.busy = false;
      $('new').toggleAttribute('data-busy', false);
      $('sending').hidden = true;
    }
  }

  tell(text, percent) {
    $('sending').hidden = false;
    setText($('sending-text'), text);
    if (percent === null) $('sending-bar').removeAttribute('value');
    else $('sending-bar').value = percent;
  }

  refuse(name, { message, suggestion }) {
    const li = el('li', {},
      el('div', {}, name ? el('strong', {}, name) : null, el('p', {}, message), suggestion ? el('p', { class: 'suggestion' }, suggestion) : null),
      el('button', { type: 'button', class: 'button quiet small', 'aria-label': t('close'), onclick: () => li.remove() }, '✕'));
    $('refusals').append(li);
  }

  clear() {
    $('refusals').replaceChildren();
  }
}

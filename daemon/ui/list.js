// The list of jobs: newest first, a page at a time, patched as events come.

import { api, isOurs } from './api.js';
import { $, el, setText } from './dom.js';
import { isFinal, statusClass, statusText } from './jobview.js';
import { duration, t, when } from './texts.js';

const PAGE = 20;
const STATUSES = ['', 'pending', 'processing', 'completed', 'failed', 'cancelled'];
/** Several events close together are one reload. */
const SETTLE_MS = 150;

export class List {
  /** `act` has `open(job)`, `again(job)`, `cancel(job)`, `failed(error)`. */
  constructor(act) {
    this.act = act;
    this.jobs = new Map(); // of the page that is shown, in order
    this.rows = new Map();
    this.trail = [null]; // cursors of the pages up to this one
    this.next = null;
    this.open = null;
    this.asked = 0;
    this.timer = null;
    $('filter').append(...STATUSES.map((s) => el('option', { value: s }, t(s || 'all'))));
    const turn = (trail) => this.go(trail).then(() => $('list').scrollIntoView({ block: 'nearest' }));
    $('filter').addEventListener('change', () => turn([null]));
    $('older').addEventListener('click', () => turn([...this.trail, this.next]));
    $('newer').addEventListener('click', () => turn(this.trail.slice(0, -1)));
  }

  /** Shows the page at the end of this trail of cursors; `[null]` is the newest. */
  go(trail) {
    this.trail = trail;
    return this.load();
  }

  /** A reload soon; many calls are one. */
  stale() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.load();
    }, SETTLE_MS);
  }

  async load() {
    const asked = ++this.asked;
    try {
      const page = await api.jobs({ status: $('filter').value, cursor: this.trail.at(-1), limit: PAGE });
      if (asked !== this.asked) return; // an answer to a question that nobody asks any more
      this.jobs = new Map(page.items.map((j) => [j.id, j]));
      this.next = page.next_cursor;
      this.total = page.total;
      this.draw();
    } catch (e) {
      this.act.failed(e);
    }
  }

  /** Facts of one job from an event or an answer. `news`: a job that the first page does not show yet makes it read again. */
  patch(jobId, facts, news = false) {
    const job = this.jobs.get(jobId);
    if (job) {
      Object.assign(job, facts);
      this.drawRow(job);
    } else if (news && this.trail.length === 1) {
      this.stale();
    }
  }

  select(jobId) {
    this.open = jobId;
    for (const [id, row] of this.rows) row.toggleAttribute('data-open', id === jobId);
  }

  draw() {
    const ol = $('rows');
    for (const [id, row] of this.rows) {
      if (!this.jobs.has(id)) {
        row.remove();
        this.rows.delete(id);
      }
    }
    let place = ol.firstElementChild;
    for (const job of this.jobs.values()) {
      const row = this.rows.get(job.id) ?? this.newRow(job);
      if (row === place) place = place.nextElementSibling;
      else ol.insertBefore(row, place);
      this.drawRow(job);
    }
    $('empty').hidden = this.jobs.size > 0;
    const from = (this.trail.length - 1) * PAGE;
    setText($('place'), this.jobs.size ? t('place', { from: from + 1, to: from + this.jobs.size, total: this.total ?? '?' }) : '');
    $('older').disabled = !this.next;
    $('newer').disabled = this.trail.length === 1;
  }

  newRow(job) {
    const now = () => this.jobs.get(job.id) ?? job;
    const row = el('li', { class: 'row' },
      el('button', { type: 'button', class: 'open', onclick: () => this.act.open(now()) },
        el('span', { class: 'thumb' }),
        el('span', { class: 'words' }, el('span', { class: 'top' }, el('span', { class: 'chip' }), el('time', {})), el('span', { class: 'more' }))),
      el('button', { type: 'button', class: 'button round writes', onclick: () => (isFinal(now()) ? this.act.again(now()) : this.act.cancel(now())) }));
    this.rows.set(job.id, row);
    row.toggleAttribute('data-open', job.id === this.open);
    return row;
  }

  drawRow(job) {
    const row = this.rows.get(job.id);
    if (!row) return;
    const [open, action] = row.children;
    const chip = row.querySelector('.chip');
    chip.className = `chip ${statusClass(job)}`;
    setText(chip, statusText(job));
    const time = row.querySelector('time');
    time.setAttribute('datetime', job.created_at);
    setText(time, when(job.created_at));
    setText(row.querySelector('.more'), more(job));
    open.setAttribute('aria-label', `${t('openJob', { time: when(job.created_at), status: statusText(job) })}. ${more(job)}`);
    const verb = t(isFinal(job) ? 'again' : 'cancel');
    setText(action, isFinal(job) ? '↻' : '✕');
    action.title = verb;
    action.setAttribute('aria-label', `${verb}: ${when(job.created_at)}`);
    const thumb = row.querySelector('.thumb');
    thumb.className = `thumb ${statusClass(job)}`;
    this.thumb(thumb, job);
  }

  /** Signed URLs change with each answer; the picture does not, so it is loaded once. */
  thumb(box, job) {
    if (box.firstChild || !job.thumb_url || !isOurs(job.thumb_url)) return;
    const img = el('img', { src: job.thumb_url, alt: '', loading: 'lazy', width: 64, height: 64 });
    img.addEventListener('error', () => img.remove());
    box.append(img);
  }
}

function more(job) {
  const eye = job.eye ? t(job.eye === 'left' ? 'eyeLeft' : 'eyeRight') : '';
  const now = {
    processing: () => `${job.current_step ? t(`step_${job.current_step}`) : ''} ${job.progress ?? 0} %`.trim(),
    completed: () => duration(job.processing_time_ms),
    failed: () => job.error_message ?? '',
  }[job.status]?.();
  return [eye, now].filter(Boolean).join(' · ');
}

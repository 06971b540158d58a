// One job, large: its five steps while it runs, then the result beside the original, or the reason and what to do.

import { api, isOurs, report as loadReport } from './api.js';
import { compare } from './compare.js';
import { $, el, say, setText } from './dom.js';
import { duration, t } from './texts.js';

export const STEPS = ['load', 'segment', 'reflections', 'enhance', 'save'];
/** Where each step's part of the progress bar ends, percent: a job that stopped within a step stands there at the most. */
const ENDS = [10, 40, 60, 90, 100];
const FINAL = new Set(['completed', 'failed', 'cancelled']);
export const isFinal = (job) => FINAL.has(job.status);
/** A refusal of the photo itself reads differently from a failure of the device. */
export const statusText = (job) => t(job.status === 'failed' && job.error_type === 'quality_issue' ? 'refused' : job.status);
export const statusClass = (job) => (job.status === 'failed' && job.error_type === 'quality_issue' ? 'refused' : job.status);

/** done | active | failed | waiting, for each step. */
export function stepStates(job) {
  const at = STEPS.indexOf(job.current_step);
  const stopped = job.status === 'failed' || job.status === 'cancelled';
  const first = at >= 0 ? at : ENDS.findIndex((end) => job.progress <= end);
  return STEPS.map((step, i) => {
    if (job.status === 'completed') return 'done';
    if (job.status === 'pending') return 'waiting';
    if (stopped ? i < first : i < at) return 'done';
    if (i === first && job.status === 'failed' && job.attempt > 0) return 'failed';
    return i === at && job.status === 'processing' ? 'active' : 'waiting';
  });
}

/** The panel of the open job. `act` has `again(job)`, `cancel(job)`, `newOne()`. */
export class JobView {
  constructor(act) {
    this.act = act;
    this.root = $('job');
    this.job = null;
    this.shown = ''; // what the panel's skeleton was built for: job id and phase
    this.said = '';
    this.empty();
  }

  /** Nothing open: how a good photo is taken. */
  empty() {
    this.job = null;
    this.shown = 'welcome';
    this.root.replaceChildren(
      el('div', { class: 'welcome' },
        el('img', { src: '/ui/icon.svg', alt: '', width: 88, height: 88 }),
        el('h2', { id: 'job-title' }, t('welcome')),
        el('p', {}, t('welcomeText')),
        el('ul', { class: 'tips' }, ...['tip1', 'tip2', 'tip3', 'tip4'].map((k) => el('li', {}, t(k))))),
    );
  }

  show(job) {
    this.job = job;
    const phase = isFinal(job) ? `${job.status} ${job.result_url ? 1 : 0} ${job.thumb_url ? 1 : 0}` : 'running';
    const shown = `${job.id} ${phase}`;
    if (shown !== this.shown) {
      this.shown = shown;
      this.build(job);
    }
    if (phase === 'running') this.tick(job);
    else this.refresh(job);
  }

  head(job) {
    return el('div', { class: 'job-head' },
      el('h2', { id: 'job-title', tabindex: '-1' }, statusText(job)),
      job.eye ? el('span', { class: 'chip' }, t(job.eye === 'left' ? 'eyeLeft' : 'eyeRight')) : null);
  }

  build(job) {
    const make = { completed: () => this.buildResult(job), failed: () => this.buildFailed(job), cancelled: () => this.buildCancelled(job) };
    this.root.replaceChildren(this.head(job), ...(make[job.status] ?? (() => this.buildRunning(job)))());
  }

  // ---- while it runs

  buildRunning(job) {
    this.bar = el('progress', { max: 100, value: 0, 'aria-labelledby': 'job-title' });
    this.note = el('p', { class: 'hint' });
    this.steps = STEPS.map((s) => el('li', { 'data-step': s }, el('span', { class: 'name' }, t(`step_${s}`)), el('span', { class: 'state' })));
    return [
      el('div', { class: 'running' },
        el('img', { class: 'source', src: api.photoUrl(job.photo_id), alt: t('original') }),
        el('div', { class: 'progress' },
          el('ol', { class: 'steps', 'aria-label': t('steps') }, ...this.steps),
          this.bar,
          this.note)),
      el('div', { class: 'actions' }, el('button', { type: 'button', class: 'button writes', onclick: () => this.act.cancel(this.job) }, t('cancel'))),
    ];
  }

  tick(job) {
    setText($('job-title'), statusText(job));
    this.bar.value = job.progress ?? 0;
    stepStates(job).forEach((state, i) => {
      const li = this.steps[i];
      li.className = state;
      const ms = job.step_ms?.[STEPS[i]];
      setText(li.lastChild, state === 'done' && ms != null ? duration(ms) : t(`step_${state}`));
      li.toggleAttribute('aria-current', state === 'active');
    });
    setText(this.note, waiting(job));
    const step = job.status === 'processing' && job.current_step;
    if (step && this.said !== job.id + step) {
      this.said = job.id + step;
      say(t('sayStep', { step: t(`step_${step}`) }));
    }
  }

  // ---- the end

  buildResult(job) {
    const stage = el('div', { class: 'stage' }, el('p', { class: 'hint' }, t('loadingResult')));
    this.report = null;
    this.facts = el('dl', { class: 'facts' });
    this.warnings = el('ul', { class: 'warnings' });
    this.fillResult(job, stage);
    say(t('sayDone'));
    const here = isOurs(job.result_url);
    this.links = {
      result_url: el('a', { class: 'button', ...(here ? { download: `${job.id}.jpg` } : { target: '_blank', rel: 'noopener' }) }, t(here ? 'download' : 'openElsewhere')),
      report_url: el('a', { class: 'button', target: '_blank', rel: 'noopener' }, t('report')),
    };
    return [
      stage,
      el('p', { class: 'notice' }, t('notice')),
      this.warnings,
      this.facts,
      el('div', { class: 'actions' },
        el('button', { type: 'button', class: 'button primary writes', onclick: () => this.act.newOne() }, t('newOne')),
        ...Object.values(this.links),
        el('button', { type: 'button', class: 'button writes', onclick: () => this.act.again(this.job) }, t('again'))),
    ];
  }

  async fillResult(job, stage) {
    const report = await loadReport(job.report_url);
    if (this.job?.id !== job.id) return;
    this.report = report;
    const originalUrl = api.photoUrl(job.photo_id);
    if (job.result_url && isOurs(job.result_url)) {
      stage.replaceChildren(compare({ originalUrl, resultUrl: job.result_url, report }));
    } else {
      const small = job.thumb_url && isOurs(job.thumb_url) ? el('img', { class: 'source', src: job.thumb_url, alt: t('after') }) : null;
      stage.replaceChildren(...[small, el('p', { class: 'hint' }, t(job.result_url ? 'elsewhere' : 'noResult'))].filter(Boolean));
    }
    this.warnings.replaceChildren(...(report?.warnings ?? []).map((w) => el('li', {}, w)));
    this.refresh(this.job);
  }

  /** What may still change after the end: the way to the bucket, and links that run out. */
  refresh(job) {
    if (job.status !== 'completed') return;
    for (const [name, link] of Object.entries(this.links)) {
      link.hidden = !job[name];
      if (job[name]) link.href = job[name];
    }
    const r = this.report;
    const sure = r?.iris && Math.round(100 * r.iris.confidence);
    const rows = [
      [t('factTime'), duration(job.processing_time_ms)],
      [t('factMadeUp'), r?.reflections && share(r.reflections.synthetic_share), t('factMadeUpHelp')],
      [t('factMerged'), r?.merge?.photos.length, t('factMergedHelp')],
      [t('factSize'), r?.files && `${r.files.image.width} × ${r.files.image.height}`],
      [t('factIris'), r?.iris && t(sure >= 50 ? 'factSure' : 'factNotSure', { percent: sure })],
      [t('factUpload'), job.upload_status && t(`upload_${job.upload_status}`)],
    ];
    this.facts.replaceChildren(
      ...rows.filter(([, value]) => value).map(([name, value, help]) => el('div', { title: help }, el('dt', {}, name), el('dd', {}, value))),
    );
  }

  buildFailed(job) {
    say(t('sayFailed', { message: job.error_message ?? '', suggestion: job.suggestion ?? '' }));
    const steps = stepStates(job);
    const stopped = steps.indexOf('failed');
    const kind = statusClass(job);
    // A refused photo is shown with what is wrong marked on it.
    const marked = job.thumb_url && isOurs(job.thumb_url);
    const photo = marked ? { class: 'source marked', src: job.thumb_url, alt: t('marked') } : { class: 'source', src: api.photoUrl(job.photo_id), alt: t('original') };
    return [
      el('div', { class: `fault ${kind}` },
        el('figure', {}, el('img', photo), marked ? el('figcaption', { class: 'hint' }, t('marks')) : null),
        el('div', {},
          el('p', { class: 'reason' }, job.error_message ?? t('failed')),
          job.suggestion ? el('p', { class: 'suggestion' }, el('strong', {}, `${t('whatToDo')}: `), job.suggestion) : null,
          el('p', { class: 'hint' }, [stopped >= 0 ? `${t(`step_${STEPS[stopped]}`)}: ${t('step_failed')}` : '', `${t('code')} ${job.error_code ?? '-'}`]
            .filter(Boolean).join(' · ')),
          el('p', { class: 'hint mono' }, `${t('jobId')} ${job.id}`))),
      el('div', { class: 'actions' },
        el('button', { type: 'button', class: 'button primary writes', onclick: () => this.act.newOne() }, t('newOne')),
        el('button', { type: 'button', class: 'button writes', onclick: () => this.act.again(this.job) }, t('again'))),
    ];
  }

  buildCancelled(job) {
    return [
      el('div', { class: 'fault cancelled' },
        el('img', { class: 'source', src: api.photoUrl(job.photo_id), alt: t('original') }),
        el('p', { class: 'reason' }, t('cancelledText'))),
      el('div', { class: 'actions' },
        el('button', { type: 'button', class: 'button primary writes', onclick: () => this.act.newOne() }, t('newOne')),
        el('button', { type: 'button', class: 'button writes', onclick: () => this.act.again(this.job) }, t('again'))),
    ];
  }
}

function share(value) {
  const percent = 100 * value;
  return `${percent === 0 || percent >= 10 ? percent.toFixed(0) : percent.toFixed(1)} %`;
}

/** Where a waiting job stands, and how often it was tried. */
function waiting(job) {
  const parts = [];
  if (job.status === 'pending' && job.queue_position != null) {
    parts.push(job.queue_position > 1 ? t('waitingBehind', { n: job.queue_position - 1 }) : t('waitingNext'));
  }
  if (job.eta_ms) parts.push(t('waitingAbout', { time: duration(job.eta_ms) }));
  if (job.attempt > 1) parts.push(t('attempt', { n: job.attempt }));
  return parts.join(' ');
}

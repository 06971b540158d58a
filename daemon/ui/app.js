// The page's one owner of state: who is signed in, which job is open, whether the device can be reached.
//
//   boot --401--> door --token--> desk        boot --200--> desk (open mode, or the cookie still holds)

import { api } from './api.js';
import { CameraPanel } from './camera.js';
import { $, setText } from './dom.js';
import { JobView, isFinal } from './jobview.js';
import { List } from './list.js';
import { Live } from './live.js';
import { Sender } from './send.js';
import { fill, t } from './texts.js';

/** How often an unfinished open job is asked for: without events it is the only source, with them it covers a silent break. */
const POLL_MS = { lost: 1_000, live: 5_000 };
/** The list, likewise. */
const LIST_POLL_MS = { lost: 5_000, live: 30_000 };
/** Signed links run out after some minutes; an open result gets new ones before. */
const LINKS_MS = 60_000;
/** A device that does not answer is asked again. */
const PROBE_MS = 2_000;
/** A short break is no news. */
const LOST_AFTER_MS = 1_500;

fill(document);

let openId = null;
let signedIn = false;
let probeTimer = 0;
let pollTimer = 0;
let listTimer = 0;

const act = { open, again, cancel, newOne, failed };
const view = new JobView(act);
const list = new List(act);
const sender = new Sender(started);
const camera = new CameraPanel((name) => sender.capture(name));
const live = new Live({ onEvent: heard, onOpen: connected, onLost: () => lost() });

// ---- the door

/** `/#token=...` signs in once. It leaves the address bar before anything else happens, so that no history keeps it. */
function tokenFromAddress() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const token = hash.get('token');
  if (token !== null) history.replaceState(null, '', location.pathname);
  return token;
}

async function boot(token = tokenFromAddress()) {
  let wrong = false;
  try {
    if (token) {
      await api.signIn(token).catch((e) => {
        if (e.status === 0 || e.status >= 500) throw e;
        wrong = true;
      });
    }
    await enter(await api.device());
  } catch (e) {
    if (e.status === 401 || e.status === 403) return door(wrong ? t('signInWrong') : '');
    banner(); // not there yet: the page waits with the device
    setTimeout(() => boot(token), PROBE_MS);
  }
}

function door(error) {
  signedIn = false;
  live.stop();
  camera.pause();
  clearTimeout(pollTimer);
  clearTimeout(listTimer);
  reachable();
  $('desk').hidden = true;
  $('leave').hidden = true;
  $('link').hidden = true;
  $('door').hidden = false;
  $('door-error').hidden = !error;
  setText($('door-error'), error ?? '');
  $('token').focus();
}

$('door-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const token = $('token').value.trim();
  try {
    await api.signIn(token);
    const device = await api.device();
    $('token').value = '';
    await enter(device);
  } catch (error) {
    door(error.status === 401 ? t('signInWrong') : error.message);
  }
});

$('leave').addEventListener('click', async () => {
  await api.signOut().catch(() => {});
  close();
  location.replace(location.pathname); // nothing of the last person stays in memory
});

async function enter(device) {
  signedIn = true;
  // A viewer reads everything and changes nothing: the page then has no button that would be refused.
  const { scope = '' } = (await api.who().catch(() => null)) ?? {};
  document.body.dataset.scope = scope;
  const name = device?.id ?? device?.device_id ?? device?.device?.id ?? '';
  setText($('device'), String(name));
  if (name) document.title = `irisd · ${name}`;
  $('door').hidden = true;
  $('desk').hidden = false;
  $('leave').hidden = device?.auth === 'open' || device?.auth_mode === 'open';
  reachable();
  live.start();
  if (scope !== 'viewer') camera.start();
  list.load();
  listPoll();
  const wanted = new URLSearchParams(location.hash.slice(1)).get('job');
  if (wanted) openById(wanted);
}

// ---- the open job

function started(jobs) {
  open(jobs[0]);
  list.go([null]);
}

function open(job) {
  openId = job.id;
  history.replaceState(null, '', `#job=${job.id}`);
  list.select(job.id);
  view.show({ ...job });
  ask();
  const panel = $('job');
  if (panel.getBoundingClientRect().top < 0 || panel.getBoundingClientRect().top > innerHeight / 2) panel.scrollIntoView({ block: 'start' });
}

function openById(id) {
  openId = id;
  list.select(id);
  ask();
}

function close() {
  openId = null;
  clearTimeout(pollTimer);
  history.replaceState(null, '', location.pathname);
  list.select(null);
  view.empty();
}

function newOne() {
  close();
  scrollTo({ top: 0 });
  $('new').querySelector('button:not([disabled]), input').focus();
}

/** Reads the open job; again later while it is unfinished. */
async function ask() {
  clearTimeout(pollTimer);
  const id = openId;
  if (!id) return;
  try {
    const job = await api.job(id);
    if (id !== openId) return;
    list.patch(id, job);
    view.show(job);
    if (isFinal(job)) {
      pollTimer = setTimeout(ask, LINKS_MS);
      return;
    }
  } catch (e) {
    if (id !== openId) return;
    if (e.status === 404) return close();
    failed(e);
    if (e.status === 401) return;
  }
  pollTimer = setTimeout(ask, live.open ? POLL_MS.live : POLL_MS.lost);
}

async function again(job) {
  try {
    started([await api.reprocess(job.id)]);
  } catch (e) {
    failed(e, true);
  }
}

async function cancel(job) {
  try {
    const now = await api.cancel(job.id);
    list.patch(now.id, now);
    if (now.id === openId) view.show(now);
  } catch (e) {
    failed(e, true);
    if (job.id === openId) ask();
  }
}

/** `loud`: the person pressed something and waits for an answer. */
function failed(e, loud = false) {
  if (e.status === 401) return door('');
  if (e.status === 0) lost();
  if (loud) sender.refuse('', e);
}

// ---- what happens meanwhile

function heard(name, event) {
  const { job_id: id } = event;
  const facts = Object.fromEntries(
    ['status', 'current_step', 'progress', 'attempt', 'error_type', 'error_code', 'suggestion', 'processing_time_ms', 'lane']
      .filter((k) => event[k] !== undefined)
      .map((k) => [k, event[k]]),
  );
  if (event.message !== undefined) facts.error_message = event.message;
  if (name === 'progress') facts.status = 'processing';
  if (name === 'uploaded') facts.upload_status = 'uploaded';
  const shown = view.job?.id === id ? view.job : null;
  // A tick may come in after the end that overtook it.
  if (name === 'progress' && (shown ?? list.jobs.get(id)) && isFinal(shown ?? list.jobs.get(id))) return;
  list.patch(id, facts, name !== 'progress');
  if (['completed', 'failed', 'cancelled'].includes(name)) list.stale(); // thumbnail, links, and the filter
  if (id !== openId) return;
  if (name === 'progress' && shown) view.show({ ...shown, ...facts });
  else ask();
}

function connected() {
  reachable();
  list.stale();
  if (openId) ask();
}

function reachable() {
  clearTimeout(probeTimer);
  probeTimer = 0;
  $('lost').hidden = true;
  setText($('link'), t('connected'));
  $('link').hidden = !signedIn;
}

function banner() {
  setText($('lost'), t('lost'));
  $('lost').hidden = false;
  $('link').hidden = true;
}

/** Events or an answer are missing: asks the device itself. It may well be there (something between cuts event streams); then polling does. */
function lost(after = LOST_AFTER_MS) {
  if (probeTimer || !signedIn) return;
  probeTimer = setTimeout(async () => {
    try {
      await api.device();
      reachable();
      list.stale();
      if (openId) ask();
    } catch (e) {
      probeTimer = 0;
      if (e.status === 401) return door('');
      banner();
      lost(PROBE_MS);
    }
  }, after);
}

function listPoll() {
  clearTimeout(listTimer);
  listTimer = setTimeout(async () => {
    if (!document.hidden) await list.load();
    if (signedIn) listPoll();
  }, live.open ? LIST_POLL_MS.live : LIST_POLL_MS.lost);
}

addEventListener('hashchange', () => {
  const hash = new URLSearchParams(location.hash.slice(1));
  if (hash.has('token')) boot();
  else if (signedIn && hash.get('job') && hash.get('job') !== openId) openById(hash.get('job'));
});

boot();

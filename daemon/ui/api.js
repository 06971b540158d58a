// The daemon's HTTP interface, as this page uses it. Every failure is an `ApiError` with a sentence for the person.

import { t } from './texts.js';

const BASE = '/api/v1';
/** An answer that takes longer than this counts as a lost connection; the device answers in milliseconds. */
const TIMEOUT_MS = 20_000;
/** Waits before a POST is sent again after a lost connection; its Idempotency-Key makes that safe. */
const RESEND_MS = [1_000, 3_000];

export class ApiError extends Error {
  /** `status` 0: the device could not be reached. */
  constructor(status, problem = {}) {
    super(problem.message || problem.detail || problem.title || (status ? t('odd', { status }) : t('offline')));
    this.status = status;
    this.code = problem.code ?? '';
    this.suggestion = problem.suggestion || (status && !problem.message ? t('oddHelp') : '');
  }
}

/** A fresh key for one intent of the user. `randomUUID` exists on https and localhost alone; a kiosk may speak plain http. */
export function freshKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function once(method, path, { json, headers } = {}) {
  let answer;
  try {
    answer = await fetch(BASE + path, {
      method,
      credentials: 'same-origin',
      headers: { Accept: 'application/json', ...(json === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
      body: json === undefined ? undefined : JSON.stringify(json),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0);
  }
  const text = await answer.text().catch(() => '');
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    if (answer.ok) throw new ApiError(answer.status);
  }
  if (!answer.ok) throw new ApiError(answer.status, body ?? {});
  return body;
}

/** A POST that creates: sent again with the same key when the connection breaks, so that it happens once. */
async function create(path, json) {
  const headers = { 'Idempotency-Key': freshKey() };
  for (const wait of RESEND_MS) {
    try {
      return await once('POST', path, { json, headers });
    } catch (e) {
      if (e.status !== 0) throw e;
      await pause(wait);
    }
  }
  return once('POST', path, { json, headers });
}

/** The type by the file's first bytes: phones send photos with no type or a wrong one. The device decides in the end. */
async function typeOf(file) {
  const h = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const at = (i, text) => [...text].every((c, k) => h[i + k] === c.charCodeAt(0));
  if (h[0] === 0xff && h[1] === 0xd8) return 'image/jpeg';
  if (h[0] === 0x89 && at(1, 'PNG')) return 'image/png';
  if (at(0, 'RIFF') && at(8, 'WEBP')) return 'image/webp';
  return file.type || 'application/octet-stream';
}

/** Sends one photo; `onPercent` hears 0..=100. XMLHttpRequest, because fetch does not tell how far an upload is. */
async function upload(file, onPercent) {
  const type = await typeOf(file).catch(() => file.type);
  return new Promise((done, fail) => {
    const x = new XMLHttpRequest();
    x.open('POST', BASE + '/photos');
    x.responseType = 'json';
    x.setRequestHeader('Content-Type', type);
    x.setRequestHeader('Accept', 'application/json');
    x.setRequestHeader('Idempotency-Key', freshKey());
    x.upload.onprogress = (e) => e.lengthComputable && onPercent(Math.floor((100 * e.loaded) / e.total));
    x.onload = () => (x.status < 300 && x.response ? done(x.response) : fail(new ApiError(x.status, x.response ?? {})));
    x.onerror = x.onabort = x.ontimeout = () => fail(new ApiError(0));
    x.send(file);
  });
}

/** Lists come as `{items}`; a bare array is taken as well. */
const items = (body) => (Array.isArray(body) ? body : (body?.items ?? body?.cameras ?? []));
const id = encodeURIComponent;
/** `urls=device`: pictures from this device while they are there, for the page may load nothing from elsewhere. */
const DEVICE_URLS = 'urls=device';

export const api = {
  device: () => once('GET', '/device'),
  signIn: (token) => once('POST', '/session', { headers: { Authorization: `Bearer ${token}` } }),
  who: () => once('GET', '/session'),
  signOut: () => once('DELETE', '/session'),

  upload,
  submit: (photoId, eye) => create('/processing/submit', { photo_id: photoId, ...(eye ? { eye } : {}) }),
  batch: (photoIds, eye) => create('/processing/batch', { photo_ids: photoIds, ...(eye ? { eye } : {}) }).then((b) => b.jobs),
  capture: (camera, eye) => create('/capture', { camera, submit: true, ...(eye ? { eye } : {}) }),

  job: (jobId) => once('GET', `/processing/jobs/${id(jobId)}?${DEVICE_URLS}`),
  jobs: ({ status, cursor, limit }) => {
    const q = new URLSearchParams({ limit });
    if (status) q.set('status', status);
    if (cursor) q.set('cursor', cursor);
    return once('GET', `/processing/jobs?${q}&${DEVICE_URLS}`);
  },
  reprocess: (jobId) => create(`/processing/jobs/${id(jobId)}/reprocess`),
  cancel: (jobId) => once('POST', `/processing/jobs/${id(jobId)}/cancel`),

  cameras: () => once('GET', '/cameras').then(items),
  previewUrl: (name) => `${BASE}/cameras/${id(name)}/preview`,
  photoUrl: (photoId) => `${BASE}/photos/${id(photoId)}/image`,
};

/** The report behind a signed URL of this device; null where it cannot be had. */
export async function report(url) {
  if (!url || !isOurs(url)) return null;
  try {
    const answer = await fetch(url, { credentials: 'same-origin', signal: AbortSignal.timeout(TIMEOUT_MS) });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** Whether a URL leads to this device. */
export function isOurs(url) {
  try {
    return new URL(url, location.href).origin === location.origin;
  } catch {
    return false;
  }
}

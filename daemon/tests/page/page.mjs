// The page at / in a real browser, against a running daemon.
//
//   BASE_URL=http://127.0.0.1:8080 TOKEN=... PHOTO=eye.jpg [OUT_DIR=shots] [CHROMIUM=/usr/bin/chromium] node page.mjs
//
// The token needs the scope kiosk or admin. Exit 0: everything held; 1: the first thing that did not, on stderr.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { chromium } from 'playwright-core';

const { BASE_URL, TOKEN, PHOTO, OUT_DIR = 'shots', CHROMIUM = '/usr/bin/chromium' } = process.env;
assert(BASE_URL && TOKEN && PHOTO, 'BASE_URL, TOKEN and PHOTO must be set');
const ORIGIN = new URL(BASE_URL).origin;
const WAIT_MS = 120_000; // a job on a slow machine
fs.mkdirSync(OUT_DIR, { recursive: true });

// Chromium itself asks outside addresses at start unless told not to; that would hide a request of ours.
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath: CHROMIUM, args: QUIET });
const complaints = [];

async function open(view) {
  const context = await browser.newContext(view);
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.on('request', (r) => {
    const url = new URL(r.url());
    if (!['blob:', 'data:'].includes(url.protocol) && url.origin !== ORIGIN) complaints.push(`a request left for ${url.origin}`);
  });
  page.on('pageerror', (e) => complaints.push(`script error: ${e.message}`));
  page.on('console', (m) => /Content Security Policy/i.test(m.text()) && complaints.push(m.text()));
  const shot = (name) => page.screenshot({ path: path.join(OUT_DIR, `${view.viewport.width}-${name}.png`), fullPage: true });
  return { context, page, shot };
}

async function a_stranger_sees_the_door_alone({ page, shot }) {
  await page.goto(BASE_URL);
  await page.locator('#door').waitFor();
  assert(await page.locator('#desk').isHidden());
  await page.fill('#token', 'not-a-token');
  await page.click('#door-form button');
  await page.locator('#door-error').waitFor();
  await shot('door');
}

async function the_token_of_the_address_signs_in_once({ page, context }) {
  await page.goto('about:blank');
  await page.goto(`${BASE_URL}/#token=${encodeURIComponent(TOKEN)}`);
  await page.locator('#desk').waitFor();
  assert(!page.url().includes(TOKEN), 'the token stayed in the address');
  const cookie = (await context.cookies()).find((c) => c.httpOnly && c.sameSite === 'Strict');
  assert(cookie, 'no HttpOnly, SameSite=Strict cookie');
  await page.reload();
  await page.locator('#desk').waitFor();
}

/** The photo with a number in a comment: the same bytes twice would get the first result at once, without a step to be seen. */
function with_a_comment(number) {
  const photo = fs.readFileSync(PHOTO);
  return Buffer.concat([photo.subarray(0, 2), Buffer.from([0xff, 0xfe, 0, 4, number >> 8, number & 255]), photo.subarray(2)]);
}

async function a_photo_becomes_a_result_beside_its_original({ page, shot }) {
  await page.setInputFiles('#file', { name: 'eye.jpg', mimeType: 'image/jpeg', buffer: with_a_comment(await page.evaluate(() => innerWidth)) });
  await page.locator('#job .steps li').first().waitFor();
  assert.equal(await page.locator('#job .steps li').count(), 5);
  await page.locator('#job .frame').waitFor();
  await page.waitForFunction(() => [...document.querySelectorAll('.frame img')].every((i) => i.complete && i.naturalWidth > 0));
  assert.match(await page.locator('#job .notice').innerText(), /not for diagnosis/);
  await page.locator('#job .facts dd').first().waitFor();
  await shot('result');
}

/**
 * The original is moved and scaled a little in all ways: where it stands in the page must fit the result best. Edges are compared, not
 * brightness: the result's contrast differs by intent.
 */
async function the_two_pictures_show_the_same_region({ page }) {
  const { best, r } = await page.evaluate(async () => {
    const [N, RIM] = [128, 16];
    const frame = document.querySelector('.frame').getBoundingClientRect();
    const small = async (img) => {
      const b = img.getBoundingClientRect();
      const [w, h] = [(b.width * N) / frame.width, (b.height * N) / frame.height];
      const bitmap = await createImageBitmap(img, { resizeWidth: Math.round(w), resizeHeight: Math.round(h), resizeQuality: 'high' });
      return { bitmap, w, h, x: ((b.left - frame.left) * N) / frame.width, y: ((b.top - frame.top) * N) / frame.height };
    };
    const edges = ({ bitmap, x, y, w, h }, { dx, dy, k }) => {
      const c = new OffscreenCanvas(N, N).getContext('2d', { willReadFrequently: true });
      const [cx, cy] = [N / 2 + dx, N / 2 + dy];
      c.drawImage(bitmap, cx + (x - N / 2) * k, cy + (y - N / 2) * k, w * k, h * k);
      const d = c.getImageData(0, 0, N, N).data;
      const at = (i) => d[4 * i] + 2 * d[4 * i + 1] + d[4 * i + 2];
      const out = [];
      for (let row = RIM; row < N - RIM; row++) {
        for (let i = row * N + RIM; i < row * N + N - RIM; i++) out.push(Math.hypot(at(i + 1) - at(i - 1), at(i + N) - at(i - N)));
      }
      const mean = out.reduce((p, q) => p + q) / out.length;
      return out.map((v) => v - mean);
    };
    const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
    const [before, after] = [await small(document.querySelector('.before img')), await small(document.querySelector('.after img'))];
    const b = edges(after, { dx: 0, dy: 0, k: 1 });
    let best = { r: -1 };
    for (const k of [0.85, 0.95, 1, 1.05, 1.15]) {
      for (const dx of [-8, -4, -2, 0, 2, 4, 8]) {
        for (const dy of [-8, -4, -2, 0, 2, 4, 8]) {
          const a = edges(before, { dx, dy, k });
          const r = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
          if (r > best.r) best = { r, dx, dy, k };
        }
      }
    }
    return { best: [best.dx, best.dy, best.k], r: best.r };
  });
  assert.deepEqual(best, [0, 0, 1], `the original would fit better at ${best} (x and y in 1/128 of the frame, scale); correlation ${r.toFixed(2)}`);
  // The lamp's strong edges are in the original alone: what the reflections step takes away lowers this.
  assert(r > 0.2, `the edges of original and result correlate by ${r.toFixed(2)} only`);
}

async function the_slider_follows_pointer_and_keys({ page }) {
  const split = () => page.locator('.frame').evaluate((f) => parseFloat(getComputedStyle(f).getPropertyValue('--split')));
  await page.locator('.frame').scrollIntoViewIfNeeded();
  const box = await page.locator('.frame').boundingBox();
  const y = box.y + box.height / 2;
  await page.mouse.move(box.x + box.width / 2, y);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 4, y, { steps: 4 });
  await page.mouse.up();
  assert(Math.abs((await split()) - 25) < 2, `dragged to a quarter, the split is at ${await split()} %`);
  await page.keyboard.press('End');
  assert.equal(await split(), 100);
  await page.keyboard.press('Home');
  assert.equal(await split(), 0);
}

async function the_list_has_the_job_and_opens_it({ page }) {
  const row = page.locator('#rows .row').first();
  await row.locator('.chip.completed').waitFor();
  await row.locator('.thumb img').waitFor();
  await page.locator('#job .actions .primary').click();
  await page.locator('#job .welcome').waitFor();
  await row.locator('.open').click();
  await page.locator('#job .frame').waitFor();
  await page.selectOption('#filter', 'cancelled');
  await page.waitForFunction(() => !document.querySelector('#rows .chip.completed'));
  await page.selectOption('#filter', '');
  await row.waitFor();
}

async function a_file_that_is_no_photo_is_refused_with_a_reason({ page, shot }) {
  await page.setInputFiles('#file', { name: 'photo.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('hello, I am a photo') });
  const refusal = page.locator('#refusals li');
  await refusal.waitFor();
  assert((await refusal.innerText()).length > 'photo.jpg'.length + 10, 'no reason was given');
  assert.notEqual((await refusal.locator('.suggestion').innerText()).trim(), '');
  await shot('no-photo');
}

async function a_photo_without_an_eye_is_refused_with_what_to_do({ page, shot }) {
  const base64 = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(800, 600);
    const c = canvas.getContext('2d');
    c.fillStyle = '#9aa4ad';
    c.fillRect(0, 0, 800, 600);
    const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/jpeg' })).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
  });
  await page.setInputFiles('#file', { name: 'wall.jpg', mimeType: 'image/jpeg', buffer: Buffer.from(base64, 'base64') });
  await page.locator('#job .fault .reason').waitFor();
  assert.notEqual((await page.locator('#job .fault .suggestion').innerText()).trim(), '');
  assert.equal(await page.locator('#rows .row').first().locator('.chip.refused').count(), 1);
  const marked = page.locator('#job .fault img.marked');
  await marked.waitFor();
  assert.equal(await marked.evaluate((img) => img.decode().then(() => img.naturalWidth)), 320);
  await shot('refused');
}

async function nothing_is_wider_than_the_screen({ page }) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert(over <= 0, `the page is ${over} px wider than the screen`);
}

async function signing_out_closes_the_door({ page, context }) {
  await page.click('#leave');
  await page.locator('#door').waitFor();
  const status = await page.evaluate(() => fetch('/api/v1/device').then((r) => r.status));
  assert.equal(status, 401);
  await context.close();
}

const CHECKS = [
  a_stranger_sees_the_door_alone,
  the_token_of_the_address_signs_in_once,
  a_photo_becomes_a_result_beside_its_original,
  the_two_pictures_show_the_same_region,
  the_slider_follows_pointer_and_keys,
  the_list_has_the_job_and_opens_it,
  a_file_that_is_no_photo_is_refused_with_a_reason,
  a_photo_without_an_eye_is_refused_with_what_to_do,
  nothing_is_wider_than_the_screen,
  signing_out_closes_the_door,
];
const VIEWS = [{ viewport: { width: 1280, height: 800 } }, { viewport: { width: 390, height: 844 }, hasTouch: true, colorScheme: 'dark' }];

let current = '';
try {
  for (const view of VIEWS) {
    const opened = await open(view);
    for (const check of CHECKS) {
      current = `${check.name.replaceAll('_', ' ')} (${view.viewport.width} px)`;
      await check(opened);
      assert.deepEqual(complaints, []);
      console.log(`ok   ${current}`);
    }
  }
} catch (e) {
  console.error(`FAIL ${current}\n     ${e.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}

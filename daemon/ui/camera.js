// The device's own cameras: which there are, whether they are there just now, and their live picture.

import { api } from './api.js';
import { $, el, setText } from './dom.js';
import { t } from './texts.js';

/** Cameras come and go with their cable; the daemon tries again every 5 s at most. */
const ASK_MS = 4_000;

export class CameraPanel {
  /** `onCapture(name)` */
  constructor(onCapture) {
    this.cameras = [];
    this.timer = 0;
    this.showing = null;
    this.started = false;
    $('camera-name').addEventListener('change', () => this.draw());
    $('capture').addEventListener('click', () => onCapture($('camera-name').value));
    $('preview').addEventListener('error', () => this.hide());
    $('preview').addEventListener('load', () => setText($('camera-note'), ''));
    // A preview keeps the camera at work: nobody looks, nothing runs.
    document.addEventListener('visibilitychange', () => (document.hidden ? this.pause() : this.started && this.start()));
  }

  start() {
    this.started = true;
    clearTimeout(this.timer);
    this.ask();
  }

  pause() {
    clearTimeout(this.timer);
    this.hide();
  }

  async ask() {
    try {
      this.cameras = await api.cameras();
      this.draw();
    } catch (e) {
      this.hide();
      if (e.status === 401) return;
    }
    clearTimeout(this.timer);
    if (!document.hidden) this.timer = setTimeout(() => this.ask(), ASK_MS);
  }

  draw() {
    const names = this.cameras.map((c) => c.name);
    $('camera').hidden = names.length === 0;
    if (names.length === 0) return this.hide();
    const select = $('camera-name');
    if ([...select.options].map((o) => o.value).join('\n') !== names.join('\n')) {
      const chosen = select.value;
      select.replaceChildren(...names.map((n) => el('option', { value: n }, n)));
      if (names.includes(chosen)) select.value = chosen;
    }
    $('camera-choice').hidden = names.length < 2;
    const camera = this.cameras.find((c) => c.name === select.value);
    const ready = camera.state === 'ready';
    $('capture').disabled = !ready;
    if (camera.kind === 'folder') {
      this.hide(); // a folder has no live picture
      setText($('camera-note'), t('cameraFolder'));
    } else if (ready) this.show(camera.name);
    else {
      this.hide();
      setText($('camera-note'), t(camera.state === 'opening' ? 'cameraOpening' : 'cameraGone'));
    }
  }

  show(name) {
    if (this.showing === name) return;
    this.showing = name;
    setText($('camera-note'), t('cameraOpening'));
    const img = $('preview');
    img.alt = t('previewOf', { name });
    img.src = api.previewUrl(name);
    img.hidden = false;
  }

  hide() {
    if (this.showing) setText($('camera-note'), t('cameraNoView'));
    this.showing = null;
    $('preview').hidden = true;
    $('preview').removeAttribute('src'); // ends the stream
  }
}

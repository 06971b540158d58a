// Job events as they happen, over SSE.
//
//   start --> open --(error)--> lost --(browser or our timer)--> open
//
// EventSource reconnects by itself after a broken connection and says Last-Event-ID; after a refusal (503 while the daemon starts,
// 401) it gives up, and we open a new one. Whoever listens reads the truth again on each `open`, so no event can be missed for good.

const NAMES = ['submitted', 'started', 'retried', 'progress', 'completed', 'failed', 'cancelled', 'uploaded'];
const BACKOFF_MS = [1_000, 2_000, 4_000, 8_000, 15_000];

export class Live {
  /** `onEvent(name, data)`, `onOpen()`, `onLost()`. */
  constructor({ onEvent, onOpen, onLost }) {
    Object.assign(this, { onEvent, onOpen, onLost, source: null, timer: 0, tries: 0, open: false });
  }

  start() {
    this.stop();
    const source = new EventSource('/api/v1/events');
    this.source = source;
    source.onopen = () => {
      this.open = true;
      this.tries = 0;
      this.onOpen();
    };
    source.onerror = () => {
      this.open = false;
      this.onLost();
      if (source.readyState !== EventSource.CLOSED || this.source !== source) return;
      const wait = BACKOFF_MS[Math.min(this.tries++, BACKOFF_MS.length - 1)];
      this.timer = setTimeout(() => this.start(), wait);
    };
    for (const name of NAMES) source.addEventListener(name, (e) => this.heard(name, e.data));
    // Too long away for a replay: what was shown is old.
    source.addEventListener('reset', () => this.onOpen());
  }

  heard(name, text) {
    let data;
    try {
      data = JSON.parse(text);
    } catch {
      return;
    }
    if (data?.job_id) this.onEvent(name, data);
  }

  stop() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.open = false;
  }
}

// Small helpers over the DOM. Text goes in as text nodes only: nothing that the device or a file says is ever read as HTML.

export const $ = (id) => document.getElementById(id);

/** `el('p', {class: 'hint', onclick: f}, 'text', child)`; null children are left out. */
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? '' : value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

/** Writes only what changed, so that screen readers and focus stay where they are. */
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

/** Tells a screen reader, in passing. */
export function say(text) {
  setText($('say'), text);
}

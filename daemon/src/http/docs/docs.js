// Draws /openapi.json as a page. Text goes in as text, never as markup.
'use strict';

const el = (name, attributes, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
};

// `code` in backticks becomes <code>.
const prose = (text) => el('span', {}, ...(text || '').split('`').map((part, i) => (i % 2 ? el('code', {}, part) : part)));

const table = (head, rows) =>
  el('table', {},
    el('thead', {}, el('tr', {}, ...head.map((h) => el('th', { scope: 'col' }, h)))),
    el('tbody', {}, ...rows));

const row = (...cells) => el('tr', {}, ...cells.map((c) => el('td', {}, c)));

function draw(doc) {
  const resolve = (thing) => (thing && thing.$ref ? doc.components[thing.$ref.split('/')[2]][thing.$ref.split('/')[3]] : thing);

  // A schema in a few words, with links to named ones.
  const kind = (schema) => {
    if (!schema) return '';
    if (schema.$ref) {
      const name = schema.$ref.split('/').pop();
      return el('a', { href: `#schema-${name}` }, name);
    }
    if (schema.oneOf) return el('span', {}, ...schema.oneOf.flatMap((s, i) => (i ? [' or ', kind(s)] : [kind(s)])));
    if (schema.type === 'array') return el('span', {}, 'list of ', kind(schema.items));
    if (schema.enum) return schema.enum.join(' | ');
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.type === 'object' && schema.properties) return el('span', {}, 'object: ', Object.keys(schema.properties).join(', '));
    const limits = [];
    if (schema.format) limits.push(schema.format);
    if (schema.minimum !== undefined) limits.push(`from ${schema.minimum}`);
    if (schema.maximum !== undefined) limits.push(`to ${schema.maximum}`);
    if (schema.maxLength !== undefined) limits.push(`at most ${schema.maxLength} characters`);
    if (schema.default !== undefined) limits.push(`${schema.default} unless said`);
    return [].concat(schema.type || 'any').join(' or ') + (limits.length ? ` (${limits.join(', ')})` : '');
  };

  const fields = (schema) => table(['field', 'type', ''],
    Object.entries(schema.properties || {}).map(([name, field]) => row(
      el('code', {}, name + ((schema.required || []).includes(name) ? '' : '?')), kind(field), prose(field.description))));

  const content = (media) => Object.entries(media || {}).map(([type, { schema }]) =>
    el('div', {}, el('code', {}, type), ' ', kind(schema)));

  const operation = (path, method, op, shared) => {
    const parameters = [...shared, ...(op.parameters || [])].map(resolve);
    const body = op.requestBody && el('div', {}, el('h4', {}, 'Body'), ...content(op.requestBody.content));
    const responses = Object.entries(op.responses).map(([status, response]) => {
      const r = resolve(response);
      return row(el('code', {}, status), prose(r.description), el('div', {}, ...content(r.content)));
    });
    return el('details', { id: op.operationId },
      el('summary', {}, el('span', { class: 'method' }, method.toUpperCase()), el('span', { class: 'path' }, path), ' ',
        el('span', { class: 'what' }, op.summary)),
      el('div', {},
        op.description ? el('p', {}, prose(op.description)) : null,
        op.security && !op.security.length ? el('p', {}, 'Needs no token.') : null,
        parameters.length ? el('h4', {}, 'Parameters') : null,
        parameters.length ? table(['name', 'in', 'type', ''], parameters.map((p) =>
          row(el('code', {}, p.name + (p.required ? '' : '?')), p.in, kind(p.schema), prose(p.description)))) : null,
        body,
        el('h4', {}, 'Answers'),
        table(['status', '', ''], responses)));
  };

  document.getElementById('about').textContent = doc.info.description;
  const main = document.getElementById('main');
  const nav = document.getElementById('nav');
  main.replaceChildren();
  const section = (id, title, ...children) => {
    nav.append(el('a', { href: `#${id}` }, title));
    main.append(el('section', { id }, el('h2', {}, title), ...children));
  };

  for (const { name } of doc.tags) {
    const operations = Object.entries(doc.paths).flatMap(([path, item]) =>
      Object.entries(item)
        .filter(([method, op]) => method !== 'parameters' && op.tags.includes(name))
        .map(([method, op]) => operation(path, method, op, item.parameters || [])));
    section(`group-${name}`, name, ...operations);
  }
  section('schemas', 'Objects', ...Object.entries(doc.components.schemas).map(([name, schema]) =>
    el('details', { id: `schema-${name}` },
      el('summary', {}, el('span', { class: 'path' }, name)),
      el('div', {}, schema.description ? el('p', {}, prose(schema.description)) : null,
        schema.properties ? fields(schema) : el('p', {}, kind(schema))))));
  section('codes', 'Error codes', el('p', {}, 'Codes of single photos and jobs come beside these; each brings its own message and suggestion.'),
    table(['code', 'status', 'what happened', 'what to do'], Object.entries(doc['x-error-codes']).map(([code, r]) => {
      const line = row(el('code', {}, code), String(r.status), r.message, r.suggestion);
      line.id = code;
      return line;
    })));

  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    if (target instanceof HTMLDetailsElement) target.open = true;
    target.scrollIntoView();
  };
  addEventListener('hashchange', open);
  open();
}

fetch('/openapi.json')
  .then((response) => (response.ok ? response.json() : Promise.reject(new Error(`status ${response.status}`))))
  .then(draw)
  .catch((e) => { document.getElementById('main').textContent = `The document could not be read: ${e.message}`; });

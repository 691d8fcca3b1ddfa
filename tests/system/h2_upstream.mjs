// SPDX-License-Identifier: MIT
// An upstream that speaks HTTP/2 by Node.js's http2, doing what the field x-do of a request says. Run with one JSON
// argument: {limit, cert, key}. Its first line of output is its port; GET .../report tells what it saw.
import http2 from 'node:http2';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const { NGHTTP2_REFUSED_STREAM } = http2.constants;
const options = JSON.parse(process.argv[2] ?? '{}');
const seen = {};     // x-id: how often it was worked on
const refused = new Set();
const held = [];     // answers that wait for enough others
let sessions = 0;
let resets = 0;      // streams that the client gave up
let working = 0;     // on streams of x-do: few

function json(stream, document) {
  stream.respond({ ':status': 200, 'content-type': 'application/json' });
  stream.end(JSON.stringify(document));
}

const acts = {
  echo: (stream, { length, hash }, fields) => json(stream, { length, hash, number: stream.session.number, id: fields['x-id'] }),
  report: (stream) => json(stream, { sessions, seen, resets }),
  goaway: (stream, body, fields) => { acts.echo(stream, body, fields); stream.session.close(); },
  hang: () => {},
  slow: (stream, body, fields) => { // x-ms each
    setTimeout(() => { if (!stream.destroyed) acts.echo(stream, body, fields); }, Number(fields['x-ms']));
  },
  in_turn: (stream, body, fields) => { // the streams of a connection one after the other, x-ms each
    const session = stream.session;
    session.last = (session.last ?? Promise.resolve()).then(() => new Promise((done) => {
      setTimeout(() => { if (!stream.destroyed) acts.echo(stream, body, fields); done(); }, Number(fields['x-ms']));
    }));
  },
  few: (stream, body, fields) => { // x-count at once, over all connections; the others are refused
    stream.on('close', () => { working--; });
    working++;
    acts.slow(stream, body, fields);
  },
  hold: (stream, body, fields) => { // until so many are held
    held.push(() => acts.echo(stream, body, fields));
    if (held.length === Number(fields['x-held'])) for (const go of held.splice(0)) go();
  },
  events: (stream, body, fields) => {
    stream.respond({ ':status': 200, 'content-type': 'text/event-stream' });
    let left = Number(fields['x-count']);
    const next = () => {
      if (left-- === 0) { stream.end('data: [DONE]\n\n'); return; }
      stream.write(`data: {"n":${left}}\n\n`, () => setImmediate(next));
    };
    next();
  },
  large: (stream, body, fields) => {
    stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' });
    stream.end(Buffer.alloc(Number(fields['x-count']), 'x'));
  },
  cut: (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/json' });
    stream.write('{"half', () => setImmediate(() => stream.destroy(new Error('cut'))));
  },
  cut_connection: (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/json', 'content-length': '100' });
    stream.write('{"half', () => setImmediate(() => stream.session.destroy()));
  },
};

function onStream(stream, fields) {
  const id = fields['x-id'];
  const hash = createHash('sha256');
  let length = 0;
  stream.on('error', () => {});
  stream.on('aborted', () => { resets++; });
  if (fields['x-do'] === 'refuse' && !refused.has(id)) {
    refused.add(id);
    stream.close(NGHTTP2_REFUSED_STREAM);
    return;
  }
  if (fields['x-do'] === 'few' && working >= Number(fields['x-count'])) {
    stream.close(NGHTTP2_REFUSED_STREAM);
    return;
  }
  stream.on('data', (bytes) => { length += bytes.length; hash.update(bytes); });
  stream.on('end', () => {
    if (id) seen[id] = (seen[id] ?? 0) + 1;
    const act = fields[':path'].endsWith('/report') ? 'report' : fields['x-do'] ?? 'echo';
    (acts[act] ?? acts.echo)(stream, { length, hash: hash.digest('hex') }, fields);
  });
}

const settings = options.limit ? { maxConcurrentStreams: options.limit } : {};
const server = options.cert
  ? http2.createSecureServer({ settings, cert: readFileSync(options.cert), key: readFileSync(options.key) })
  : http2.createServer({ settings });
server.on('session', (session) => {
  session.number = ++sessions;
  session.on('error', () => {});
});
server.on('stream', onStream);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

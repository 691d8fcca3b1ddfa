// SPDX-License-Identifier: MIT
// For Node.js: each call hashes a password on libuv's pool, four threads that share the CPUs there are.
const crypto = require('crypto');
const http = require('http');

const seconds = Number(process.env.SECONDS);
const hash = (rounds, done) => crypto.pbkdf2('password', 'salt', rounds, 64, 'sha512', done);

// So many rounds take so long, by the best of a few tries.
function calibrate() {
  const rounds = 20000;
  let best = Infinity;
  for (let i = 0; i < 5; i++) {
    const begin = process.hrtime.bigint();
    crypto.pbkdf2Sync('password', 'salt', rounds, 64, 'sha512');
    best = Math.min(best, Number(process.hrtime.bigint() - begin) / 1e9);
  }
  return Math.round((rounds * seconds) / best);
}

const rounds = calibrate();
http.createServer((request, response) => {
  request.resume();
  if (request.url === '/healthz') {
    response.end('ok\n');
  } else {
    hash(rounds, () => response.end('ok\n'));
  }
}).listen(Number(process.env.PORT), '127.0.0.1');

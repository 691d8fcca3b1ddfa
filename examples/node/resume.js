// SPDX-License-Identifier: MIT
// A streamed answer that is left in the middle and read on, with nothing but Node.js and the module of ../chat.
import {randomUUID} from 'node:crypto';
import {byFetch} from '../chat/resumable.mjs';

const WORDS = 'This process reads as far as here: another one that has the place on the tape reads the rest';
const call = place => ({
    api: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
    headers: {Authorization: `Bearer ${process.env.OPENAI_API_KEY ?? 'any'}`},
    body: {model: `mock-${WORDS.split(' ').length}x50ms`, messages: [{role: 'user', content: WORDS}]},
    place,
});
const words = chunk => chunk.choices?.[0]?.delta?.content ?? '';

let before = '';
const place = {key: randomUUID()};
await byFetch(call(place), {
    chunk(chunk) {
        before += words(chunk);
        if (before.endsWith('here:')) {
            throw new Error('left'); // ends the reading; the answer goes on
        }
    },
}).catch(error => console.log(`${error.message} after: ${before}`));

// All that has to be remembered; a file or a database will do.
const remembered = JSON.stringify(place);

let after = '';
await byFetch(call(JSON.parse(remembered)), {chunk(chunk) { after += words(chunk); }});
console.log(`then: ${after.trim()}`);
console.log(`complete, each word once: ${before + after === WORDS}`);

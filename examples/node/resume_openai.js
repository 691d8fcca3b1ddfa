// SPDX-License-Identifier: MIT
// The same with OpenAI's SDK: a stream is begun, left in the middle, and read on from there by the tape's id.
import {randomUUID} from 'node:crypto';
import OpenAI from 'openai';

const client = new OpenAI({
    baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
    apiKey: process.env.OPENAI_API_KEY ?? 'any',
});
const WORDS = 'The first process reads as far as here: whoever knows the tape and the last event reads the rest';
const words = chunk => chunk.choices[0]?.delta?.content ?? '';

// With a key the SDK's own retries are safe, too: they join the call that runs.
const {data: stream, response} = await client.chat.completions.create(
    {model: `mock-${WORDS.split(' ').length}x50ms`, messages: [{role: 'user', content: WORDS}], stream: true},
    {headers: {'Idempotency-Key': randomUUID()}}).withResponse();
const tape = response.headers.get('x-thaw-tape');

let before = '';
let last = -1; // events count from 0, and each chunk is one
for await (const chunk of stream) {
    last++;
    before += words(chunk);
    if (before.endsWith('here:')) {
        break; // closes the connection
    }
}
console.log(`before: ${before}`);

let after = '';
for await (const chunk of await client.get(`/tapes/${tape}`, {query: {starting_after: last}, stream: true})) {
    after += words(chunk);
}
console.log(`after: ${after.trim()}`);
console.log(`complete, each word once: ${before + after === WORDS}`);

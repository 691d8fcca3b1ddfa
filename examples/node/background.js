// SPDX-License-Identifier: MIT
// Retries that are not paid for, and answers that are fetched later, with OpenAI's SDK.
import {randomUUID} from 'node:crypto';
import {setTimeout as sleep} from 'node:timers/promises';
import OpenAI from 'openai';

const client = new OpenAI({
    baseURL: process.env.OPENAI_BASE_URL ?? 'http://127.0.0.1:8080/v1',
    apiKey: process.env.OPENAI_API_KEY ?? 'any',
});

// The SDK gives up after a second and asks again, the answer takes three: one call, for the key is the same.
const ask = key => client.chat.completions.create({model: 'mock-3s', messages: [{role: 'user', content: 'ping'}]},
    {headers: {'Idempotency-Key': key}, timeout: 1000, maxRetries: 20});
const key = randomUUID();
const first = await ask(key);
const second = await ask(key);
console.log(`${first.choices[0].message.content}: the same answer twice: ${first.id === second.id}`);

// OpenAI's own way to begin now and read later. The id is all there is to remember.
let answer = await client.responses.create({model: 'mock-2s', input: 'a long report', background: true});
console.log(`begun: ${answer.status}`);
while (['queued', 'in_progress'].includes(answer.status)) {
    await sleep(250);
    answer = await client.responses.retrieve(answer.id);
}
console.log(`${answer.status}: ${answer.output_text}`);

// SPDX-License-Identifier: MIT
// Cases for test_sdk_node.py: `node sdk_node.mjs CASE BASE_URL`. Prints one line of JSON; a case that throws what it did
// not expect ends with a stack and exit code 1. Runs from a folder that has openai in its node_modules.
import { File } from 'node:buffer';
import OpenAI from 'openai';

globalThis.File ??= File; // Node.js 18, Debian 12's, has no global one, and the SDK asks for it
const [name, baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'sk-canary-of-the-client', maxRetries: 0, timeout: 20000 });
const messages = [{ role: 'user', content: 'ping 4711 é你😀 and some more words' }];

async function collect(stream) {
  let text = '';
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  return { text, usage };
}

async function thrown(promise) {
  try {
    await promise;
  } catch (error) {
    return { class: error.constructor.name, status: error.status ?? null, message: String(error.message),
             code: error.code ?? null, type: error.type ?? null, api: error instanceof OpenAI.APIError,
             request_id: error.requestID ?? error.request_id ?? null, retry_after: error.headers?.get?.('retry-after') ?? null };
  }
  return { class: null };
}

// Gives up waiting after a second and tries again by itself; says so as soon as it does.
async function retried(client, options) {
  let requests = 0;
  client.fetch = (url, init) => {
    requests += 1;
    if (requests === 2) {
      process.stdout.write('again\n');
    }
    return fetch(url, init);
  };
  const answer = await client.chat.completions.create({ model: 'm', messages }, { timeout: 1000, maxRetries: 10, ...options });
  return { text: answer.choices[0].message.content, retried: requests > 1 };
}

const cases = {
  async chat() {
    const { data, request_id } = await client.chat.completions.create({ model: 'mock', messages }).withResponse();
    return { text: data.choices[0].message.content, usage: data.usage, request_id };
  },
  async stream() {
    const plain = await collect(await client.chat.completions.create({ model: 'mock', messages, stream: true }));
    const counted = await collect(await client.chat.completions.create(
      { model: 'mock', messages, stream: true, stream_options: { include_usage: true } }));
    return { text: plain.text, again: counted.text, no_usage: plain.usage, usage: counted.usage };
  },
  async helper() {
    const runner = client.chat.completions.stream({ model: 'mock', messages });
    let text = '';
    runner.on('content', (delta) => { text += delta; });
    const final = await runner.finalContent();
    return { text, final };
  },
  async abort() {
    const stream = await client.chat.completions.create({ model: 'mock', messages, stream: true });
    let first = null;
    for await (const chunk of stream) {
      first = chunk.choices[0].delta.content;
      stream.controller.abort();
      break;
    }
    process.stdout.write(JSON.stringify({ first }) + '\n');
    await new Promise((resolve) => process.stdin.once('data', resolve)); // stays until told: leaving is the SDK's doing
    process.exit(0);
  },
  async abort_waiting() {
    const controller = new AbortController();
    const call = thrown(client.chat.completions.create({ model: 'mock', messages }, { signal: controller.signal }));
    await new Promise((resolve) => process.stdin.once('data', resolve));
    controller.abort();
    process.stdout.write(JSON.stringify(await call) + '\n');
    await new Promise((resolve) => process.stdin.once('data', resolve));
    process.exit(0);
  },
  async errors() {
    const result = {};
    for (const status of [400, 401, 403, 404, 409, 422, 429, 500, 503]) {
      result[status] = await thrown(client.chat.completions.create({ model: `mock-err-${status}`, messages }));
    }
    return result;
  },
  async bad_request() {
    return thrown(client.chat.completions.create({ model: 5, messages }));
  },
  async stream_error() {
    return thrown((async () => collect(await client.chat.completions.create({ model: 'mock', messages, stream: true })))());
  },
  async stream_retried_once() {
    return collect(await client.chat.completions.create({ model: 'mock', messages, stream: true }, { maxRetries: 1 }));
  },
  async plain_error() {
    return thrown(client.chat.completions.create({ model: 'mock', messages }));
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) {
      ids.push(model.id);
    }
    return ids;
  },
  async embeddings() {
    const { data } = await client.embeddings.create({ model: 'mock', input: ['one', 'two', 'one'] });
    return data.map((d) => Array.from(d.embedding));
  },
  async responses() {
    const whole = await client.responses.create({ model: 'mock', input: 'ping 4711' });
    let text = '';
    for await (const event of await client.responses.create({ model: 'mock', input: 'ping 4711', stream: true })) {
      text += event.type === 'response.output_text.delta' ? event.delta : '';
    }
    return { whole: whole.output_text, text };
  },
  async upload() {
    const file = await OpenAI.toFile(Buffer.alloc(3000000, 'u'), 'big.jsonl');
    return client.files.create({ file, purpose: 'batch' });
  },
  async retry_per_call() {
    return retried(client, { headers: { 'Idempotency-Key': 'one-question' } });
  },
  async retry_whole_client() { // a new key for every call, the same for its retries
    client.idempotencyHeader = 'Idempotency-Key';
    return retried(client, {});
  },
  async parallel() {
    return Promise.all(Array.from({ length: 50 }, async (_, n) => {
      const mine = [{ role: 'user', content: `mark-${n}-end` }];
      if (n % 2) {
        return (await collect(await client.chat.completions.create({ model: 'mock', messages: mine, stream: true }))).text;
      }
      return (await client.chat.completions.create({ model: 'mock', messages: mine })).choices[0].message.content;
    }));
  },
};

const result = await cases[name]();
if (result !== undefined) {
  process.stdout.write(JSON.stringify(result) + '\n');
}

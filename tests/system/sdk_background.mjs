// SPDX-License-Identifier: MIT
// Cases for test_background.py: `node sdk_background.mjs CASE BASE_URL [ID]`. Prints one line of JSON. Runs from a folder
// that has openai in its node_modules.
import { File } from 'node:buffer';
import OpenAI from 'openai';

globalThis.File ??= File; // Node.js 18, Debian 12's, has no global one, and the SDK asks for it
const [name, baseURL, id] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: 'sk-canary-of-the-client', maxRetries: 0, timeout: 20000 });

async function finished(id) {
  for (;;) {
    const response = await client.responses.retrieve(id);
    if (!['queued', 'in_progress'].includes(response.status)) {
      return response;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const cases = {
  async begin() {
    const response = await client.responses.create({ model: 'mock-300ms', input: 'ping 4711', background: true });
    return { id: response.id, status: response.status };
  },

  async finished() {
    const response = await finished(id);
    return { id: response.id, status: response.status, text: response.output_text, error: response.error };
  },

  async cancel() {
    const { id } = await client.responses.create({ model: 'mock-60s', input: 'ping', background: true });
    const cancelled = await client.responses.cancel(id);
    const seen = await client.responses.retrieve(id);
    await client.responses.delete(id);
    const gone = await client.responses.retrieve(id).catch((error) => error);
    return { statuses: [cancelled.status, seen.status], gone: gone.status };
  },

  async stream() {
    const all = [];
    const stream = await client.responses.create({ model: 'mock-20x10ms', input: 'ping 4711', background: true, stream: true });
    let id = null;
    for await (const event of stream) {
      id ??= event.response.id;
      all.push(event.sequence_number);
      if (all.length === 3) {
        break;
      }
    }
    let text = '';
    for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: all.at(-1) })) {
      all.push(event.sequence_number);
      text = event.type === 'response.completed' ? event.response.output[0].content[0].text : text;
    }
    return { all, text };
  },
};

console.log(JSON.stringify(await cases[name]()));

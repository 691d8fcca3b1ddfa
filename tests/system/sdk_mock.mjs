// SPDX-License-Identifier: MIT
// Cases for test_sdk_mock.py: `node sdk_mock.mjs CASE BASE_URL [JSON]`. Prints one line of JSON. Runs from a folder that has
// openai and @anthropic-ai/sdk in its node_modules.
import { File } from 'node:buffer';

globalThis.File ??= File; // Node.js 18, Debian 12's, has no global one, and the SDKs ask for it
const { default: OpenAI } = await import('openai');
const { default: Anthropic } = await import('@anthropic-ai/sdk');

const [name, baseURL, argument = '[]'] = process.argv.slice(2);
const model = 'mock';
const settings = { apiKey: 'sk-canary-of-the-client', maxRetries: 0, timeout: 20000 };
const openai = new OpenAI({ baseURL, ...settings });
const anthropic = new Anthropic({ baseURL: baseURL.replace(/\/v1$/, ''), ...settings });

const TEXT = 'ping 4711 é你😀 and more';
const messages = [{ role: 'user', content: TEXT }];
const schema = {
  type: 'object', additionalProperties: false, required: ['city', 'days'],
  properties: { city: { type: 'string' }, days: { type: 'integer', minimum: 1 } },
};
const chatTools = [{ type: 'function', function: { name: 'weather', parameters: schema } }];
const responseTools = [{ type: 'function', name: 'weather', parameters: schema, strict: true }];
const messageTools = [{ name: 'weather', input_schema: schema }];

const chat = (more = {}) => openai.chat.completions.create({ model, messages, ...more });
const message = (more = {}) => anthropic.messages.create({ model, max_tokens: 1000, messages, ...more });

async function all(stream) {
  const items = [];
  for await (const item of stream) {
    items.push(item);
  }
  return items;
}

// How it ended: what was thrown, or that nothing was.
async function ending(promise) {
  try {
    const value = await promise;
    return { class: null, value };
  } catch (error) {
    return { class: error.constructor.name, status: error.status ?? null, message: String(error.message),
             api: error instanceof OpenAI.OpenAIError || error instanceof Anthropic.AnthropicError,
             error_type: error.error?.error?.type ?? error.error?.type ?? null,
             request_id: error.requestID ?? null };
  }
}

// How each SDK ends with each fault, plain and streamed: raises, or whole, or short of an end.
async function provoke(faults, options) {
  const say = [{ role: 'user', content: 'one two three four' }];
  const ways = {
    'openai plain': async (m) => (await openai.chat.completions.create({ model: m, messages: say }, options))
      .choices[0].finish_reason === 'stop',
    'openai stream': async (m) => (await all(await openai.chat.completions.create({ model: m, messages: say, stream: true }, options)))
      .at(-1)?.choices[0].finish_reason === 'stop',
    'anthropic plain': async (m) => (await anthropic.messages.create({ model: m, max_tokens: 99, messages: say }, options))
      .content[0].type === 'text',
    'anthropic stream': async (m) => (await all(await anthropic.messages.create(
      { model: m, max_tokens: 99, messages: say, stream: true }, options))).at(-1)?.type === 'message_stop',
  };
  const result = {};
  for (const fault of faults) {
    for (const [way, call] of Object.entries(ways)) {
      let timer;
      const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('nothing comes')), options.patience); });
      result[`${way} ${fault}`] = await Promise.race([call(`mock-${fault}`), late]).then(
        (whole) => ({ ending: whole ? 'whole' : 'short' }),
        (error) => ({ ending: 'raises', class: error.constructor.name, message: String(error.message) }));
      clearTimeout(timer);
    }
  }
  return result;
}

const cases = {
  async chat_tools() {
    const whole = await chat({ tools: chatTools, tool_choice: 'required' });
    const call = whole.choices[0].message.tool_calls[0];
    const streamed = await openai.chat.completions.stream({ model, messages, tools: chatTools, tool_choice: 'required' })
      .finalChatCompletion();
    const after = await chat({ tools: chatTools, messages: [...messages, whole.choices[0].message,
                                                            { role: 'tool', tool_call_id: call.id, content: 'sunny' }] });
    return { whole: call.function, reason: whole.choices[0].finish_reason,
             streamed: streamed.choices[0].message.tool_calls[0].function,
             streamed_reason: streamed.choices[0].finish_reason, after: after.choices[0].message.content };
  },
  async chat_json() {
    const response_format = { type: 'json_schema', json_schema: { name: 'x', strict: true, schema } };
    const whole = await openai.chat.completions.parse({ model, messages, response_format });
    const streamed = await openai.chat.completions.stream({ model, messages, response_format }).finalContent();
    return { whole: JSON.parse(whole.choices[0].message.content), streamed: JSON.parse(streamed) };
  },
  async chat_choices() {
    const streamed = await openai.chat.completions.stream({ model, messages, n: 3, max_tokens: 2 }).finalChatCompletion();
    return streamed.choices.map((c) => [c.index, c.message.content, c.finish_reason]);
  },
  async responses() {
    const stream = openai.responses.stream({ model, input: TEXT });
    const events = await all(stream);
    const final = await stream.finalResponse();
    return { events: events.map((e) => e.type), numbers: events.map((e) => e.sequence_number), text: final.output_text };
  },
  async responses_tools() {
    const whole = await openai.responses.create({ model, input: TEXT, tools: responseTools, tool_choice: 'required' });
    const final = await openai.responses.stream({ model, input: TEXT, tools: responseTools, tool_choice: 'required' })
      .finalResponse();
    const after = await openai.responses.create({
      model, tools: responseTools, previous_response_id: whole.id, store: true,
      input: [...whole.output, { type: 'function_call_output', call_id: whole.output[0].call_id, output: 'sunny' }] });
    return { whole: whole.output[0], streamed: final.output[0], after: after.output_text };
  },
  async messages() {
    const { data, request_id } = await message().withResponse();
    const stream = anthropic.messages.stream({ model, max_tokens: 1000, messages });
    let text = '';
    stream.on('text', (delta) => { text += delta; });
    const final = await stream.finalMessage();
    const count = await anthropic.messages.countTokens({ model, messages });
    const models = [];
    for await (const m of anthropic.models.list()) {
      models.push(m.id);
    }
    return { text: data.content[0].text, usage: data.usage, request_id, streamed: text, final: final.content[0].text,
             final_usage: final.usage, reason: final.stop_reason, count: count.input_tokens, models };
  },
  async messages_tools() {
    const tools = { tools: messageTools, tool_choice: { type: 'tool', name: 'weather' } };
    const whole = await message(tools);
    const final = await anthropic.messages.stream({ model, max_tokens: 1000, messages, ...tools }).finalMessage();
    const after = await message({ ...tools, messages: [
      ...messages, { role: 'assistant', content: whole.content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: whole.content[0].id, content: 'sunny' }] }] });
    return { whole: whole.content[0], reason: whole.stop_reason, streamed: final.content[0], after: after.content[0].text };
  },
  async faults() {
    return provoke(JSON.parse(argument), { patience: 15000 });
  },
  async hangs() {
    return provoke(JSON.parse(argument), { timeout: 500, patience: 1000 });
  },
  async messages_errors() {
    const result = {};
    for (const status of [400, 401, 403, 404, 409, 422, 429, 500, 503, 529]) {
      result[status] = await ending(message({ model: `mock-err-${status}` }));
    }
    return result;
  },
};

process.stdout.write(JSON.stringify(await cases[name]()) + '\n');
process.exit(0); // what hangs is left hanging

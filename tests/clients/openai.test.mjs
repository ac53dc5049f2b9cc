// The Node SDKs through the gateway: `python3 harness.py node --test openai.test.mjs`.

import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const url = process.env.RINGWAY_URL;
const key = process.env.RINGWAY_KEY;
const limitedKeys = process.env.RINGWAY_LIMITED_KEYS.split(",");
const retryMs = Number(process.env.RINGWAY_RETRY_MS);
const tokens = Number(process.env.RINGWAY_TOKENS);
const model = "demo";
const messages = [{ role: "user", content: "Say something" }];
const tools = [{ type: "function", function: { name: "note", parameters: { type: "object", properties: {} } } }];

const make = (apiKey = key, options = {}) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 20_000, ...options });
const client = make();
const anthropic = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0, timeout: 20_000 });

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join("");

test("chat, whole", async () => {
  const answer = await client.chat.completions.create({ model, messages });
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.usage.completion_tokens, tokens);
  assert.ok(answer._request_id);
});

test("chat, streamed, without usage", async () => {
  const chunks = await all(await client.chat.completions.create({ model, messages, stream: true }));
  assert.ok(textOf(chunks).trim());
  assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
});

test("chat, streamed, with usage", async () => {
  const chunks = await all(await client.chat.completions.create({
    model, messages, stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.filter((chunk) => chunk.usage).map((chunk) => chunk.usage.completion_tokens), [tokens]);
  assert.deepEqual(chunks.at(-1).choices, []);
});

test("tool call deltas add up", async () => {
  const stream = client.chat.completions.stream({ model, messages, tools, tool_choice: "required" });
  const final = await stream.finalChatCompletion();
  const call = final.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "note");
  assert.ok(JSON.parse(call.function.arguments).text);
});

test("completions, whole and streamed", async () => {
  assert.ok((await client.completions.create({ model, prompt: "Once" })).choices[0].text);
  const chunks = await all(await client.completions.create({ model, prompt: "Once", stream: true }));
  assert.ok(chunks.map((chunk) => chunk.choices[0]?.text ?? "").join(""));
});

test("embeddings in the SDK's default encoding are not empty", async () => {
  const packed = await client.embeddings.create({ model, input: ["one", "two"] });
  const plain = await client.embeddings.create({ model, input: ["one", "two"], encoding_format: "float" });
  assert.equal(packed.data[1].embedding.length, 384);
  packed.data[1].embedding.forEach((value, index) =>
    assert.ok(Math.abs(value - plain.data[1].embedding[index]) < 1e-6));
});

test("models, listed and retrieved", async () => {
  const names = (await all(await client.models.list())).map((one) => one.id);
  assert.ok(names.includes(model) && names.includes("org/demo"));
  assert.equal((await client.models.retrieve(model)).id, model);
  assert.equal((await client.models.retrieve("org/demo")).id, "org/demo");
});

test("responses, whole and streamed", async () => {
  assert.ok((await client.responses.create({ model, input: "x" })).output_text);
  const stream = client.responses.stream({ model, input: "x" });
  const final = await stream.finalResponse();
  assert.equal(final.usage.output_tokens, tokens);
});

test("a wrong key is an AuthenticationError", async () => {
  await assert.rejects(make("sk-wrong").chat.completions.create({ model, messages }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    assert.ok(error.requestID);
    return true;
  });
});

test("an unknown model is a NotFoundError", async () => {
  await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});

test("a rate limit is a RateLimitError", async () => {
  const limited = make(limitedKeys[0]);
  await limited.chat.completions.create({ model, messages });
  await assert.rejects(limited.chat.completions.create({ model, messages }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.code, "rate_limit_exceeded");
    const wait = Number(error.headers.get("retry-after-ms"));
    assert.ok(wait > 0 && wait <= retryMs, String(wait));
    return true;
  });
});

test("the SDK waits as long as it is told", async () => {
  const limited = make(limitedKeys[1], { maxRetries: 1 });
  await limited.chat.completions.create({ model, messages });
  // Its own first wait of at most 0.5 s would be too short for one retry.
  assert.ok((await limited.chat.completions.create({ model, messages })).choices.length);
});

test("withResponse shows the headers", async () => {
  const { data, response } = await client.chat.completions.create({ model, messages, stream: true }).withResponse();
  assert.match(response.headers.get("content-type"), /^text\/event-stream/);
  assert.ok(response.headers.get("x-request-id"));
  await all(data);
});

for (const fault of ["cut", "reset", "cut-mid-event", "error-record"]) {
  test(`a stream that breaks off raises: ${fault}`, async () => {
    const chunks = [];
    await assert.rejects(async () => {
      for await (const chunk of await client.chat.completions.create({
        model: `fault-${fault}`, messages, stream: true })) chunks.push(chunk);
    });
    assert.ok(textOf(chunks).trim(), "what came before was passed on");
  });
}

test("an aborted stream stops the backend", async () => {
  const state = async () => (await fetch(`${process.env.SIMULATOR_URL}/sim/state`)).json();
  const before = (await state()).aborted;
  const stream = await client.chat.completions.create({
    model, messages, stream: true, max_tokens: 100_000, ignore_eos: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta?.content) break;
  stream.controller.abort();
  const end = Date.now() + 5000;
  while ((await state()).aborted !== before + 1) assert.ok(Date.now() < end, "the backend went on");
});

for (const quirk of process.env.RINGWAY_QUIRKS.split(",")) {
  test(`a backend with ${quirk}`, async () => {
    const quirky = `quirk-${quirk}`;
    const whole = await client.chat.completions.create({ model: quirky, messages, seed: 3 });
    const chunks = await all(await client.chat.completions.create({
      model: quirky, messages, stream: true, seed: 3, stream_options: { include_usage: true } }));
    assert.equal(textOf(chunks), whole.choices[0].message.content);
    const packed = await client.embeddings.create({ model: quirky, input: ["one", "two"] });
    const plain = await client.embeddings.create({ model: quirky, input: ["one", "two"], encoding_format: "float" });
    assert.equal(packed.data[1].embedding.length, 384);
    packed.data[1].embedding.forEach((value, index) =>
      assert.ok(Math.abs(value - plain.data[1].embedding[index]) < 1e-6));
    const final = await client.responses.stream({ model: quirky, input: "x" }).finalResponse();
    assert.equal(final.usage.output_tokens, tokens);
  });
}

test("messages, whole and streamed", async () => {
  const asked = { model, messages, max_tokens: 100 };
  assert.ok((await anthropic.messages.create(asked)).content[0].text);
  const final = await anthropic.messages.stream(asked).finalMessage();
  assert.ok(final.content[0].text);
  assert.equal(final.stop_reason, "end_turn");
  assert.equal(final.usage.output_tokens, tokens);
});

test("a wrong key on the messages path is an AuthenticationError", async () => {
  const wrong = new Anthropic({ baseURL: url, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(wrong.messages.create({ model, messages, max_tokens: 5 }), (error) => {
    assert.ok(error instanceof Anthropic.AuthenticationError);
    assert.equal(error.error.error.type, "authentication_error");
    return true;
  });
});

test("a messages stream that breaks off raises", async () => {
  await assert.rejects(anthropic.messages.stream({ model: "fault-cut", messages, max_tokens: 100 }).finalMessage());
});

// Each of some cuts of a stream (see cuts.py): what came, and what was raised.
async function cutStreams(api, iterate) {
  const cuts = JSON.parse(process.env.RINGWAY_CUTS).filter((cut) => cut.api === api);
  assert.ok(cuts.length > 50);
  for (const cut of cuts) {
    const events = [];
    let error;
    try {
      for await (const event of await iterate(cut.name)) events.push(event);
    } catch (raised) {
      error = raised;
    }
    const told = `${api} ${cut.name}: ${events.length} events, then ${error}`;
    assert.equal(error === undefined, cut.ended, told);
    assert.ok(events.length === cut.events || (cut.mayLose && events.length < cut.events), told);
    if (error) {
      const words = events.length ? "in the middle of its response" : "ended before it could be passed on";
      assert.ok(JSON.stringify(error.error).includes(words), `${told} ${JSON.stringify(error.error)}`);
    }
    // A whole answer after every cut, so that no breaker opens.
    for await (const _ of await iterate("whole"));
    if (error) cut.error = error;
  }
  return cuts.map((cut) => cut.error).filter((error) => error);
}

test("a chat stream that is cut raises, one that has ended does not", async () => {
  const errors = await cutStreams("chat", (content) =>
    client.chat.completions.create({ model: "cuts", messages: [{ role: "user", content }], stream: true }));
  for (const error of errors) {
    assert.ok(error instanceof OpenAI.APIError, String(error));
    assert.deepEqual([error.code, error.type], ["backend_stream_truncated", "server_error"]);
  }
});

test("a messages stream that is cut raises, one that has ended does not", async () => {
  const errors = await cutStreams("messages", (content) =>
    anthropic.messages.create({ model: "cuts", messages: [{ role: "user", content }], max_tokens: 9, stream: true }));
  for (const error of errors) {
    assert.ok(error instanceof Anthropic.APIError, String(error));
    assert.equal(error.error.error.type, "api_error");
  }
});

// Reads with llhttp, the parser of Node, what the gateway sent to the origins of the whole-system tests, and compares
// with their strict reader. RINGWAY_TEST_CAPTURE is the folder that tests/support/capture.rs has filled.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { after, before, test } from "node:test";

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

let server;
before(async () => {
  server = http.createServer({ insecureHTTPParser: false, maxHeaderSize: 1 << 20, keepAliveTimeout: 1000 });
  server.maxHeadersCount = 0;
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
});
after(() => server.close());

// Everything that a server makes of these bytes on one connection, which ends after them.
function read(raw) {
  return new Promise((resolve, reject) => {
    const seen = { requests: [], errors: [] };
    const patience = setTimeout(() => reject(new Error("the server did not end the connection")), 10_000);
    const request = (message, answer) => {
      const one = { method: message.method, target: message.url, version: message.httpVersion, whole: false };
      const body = [];
      seen.requests.push(one);
      message.on("data", (piece) => body.push(piece));
      message.on("error", (error) => seen.errors.push(error.message));
      message.on("end", () => {
        const fields = [];
        for (let at = 0; at < message.rawHeaders.length; at += 2) fields.push(message.rawHeaders.slice(at, at + 2));
        Object.assign(one, { fields, body: Buffer.concat(body), trailers: message.rawTrailers, whole: true });
        answer.end();
      });
    };
    const broken = (error, socket) => {
      seen.errors.push(error.message);
      socket.destroy();
    };
    server.on("request", request).on("clientError", broken);
    const socket = net.connect(server.address().port, "127.0.0.1", () => socket.end(raw));
    socket.on("error", () => {}).resume();
    socket.on("close", () => {
      clearTimeout(patience);
      server.off("request", request).off("clientError", broken);
      resolve(seen);
    });
  });
}

async function compare(raw, wanted) {
  const { requests, errors } = await read(raw);
  assert.deepEqual(errors, []);
  assert.equal(requests.length, 1, "one message");
  const [one] = requests;
  assert.ok(one.whole, "a whole message");
  assert.deepEqual([one.version, one.trailers], ["1.1", []]);
  assert.deepEqual([one.method, one.target], [wanted.method, wanted.target]);
  assert.deepEqual(one.fields, wanted.fields);
  assert.deepEqual([one.body.length, sha256(one.body)], [wanted.body_bytes, wanted.body_sha256]);
}

test("every request is the same under llhttp", async () => {
  const folder = process.env.RINGWAY_TEST_CAPTURE;
  const names = readdirSync(folder).filter((name) => name.endsWith(".json")).sort();
  assert.ok(names.length > 0, "nothing was captured");
  for (const name of names) {
    const raw = readFileSync(path.join(folder, name.replace(/json$/, "raw")));
    const wanted = JSON.parse(readFileSync(path.join(folder, name)));
    await compare(raw, wanted).catch((error) => {
      throw new Error(`${error.message}\n${raw.subarray(0, 2000).toString("latin1")}`);
    });
  }
  console.log(`${names.length} requests`);
});

const GOOD = "POST /v1/chat HTTP/1.1\r\nHost: a\r\nX: 1\r\nContent-Length: 2\r\n\r\n{}";
const WANTED = {
  method: "POST", target: "/v1/chat", fields: [["Host", "a"], ["X", "1"], ["Content-Length", "2"]],
  body_bytes: 2, body_sha256: sha256("{}"),
};

test("a good request is taken", () => compare(GOOD, WANTED));

for (const [name, bad] of Object.entries({
  "a blank before the colon": GOOD.replace("X: 1", "X : 1"),
  "a folded line": GOOD.replace("X: 1", "X: 1\r\n folded"),
  "a bare CR": GOOD.replace("X: 1", "X: a\rb"),
  "a NUL": GOOD.replace("X: 1", "X: a\0b"),
  "two lengths": GOOD.replace("X: 1", "Content-Length: 3"),
  "a length and a coding": GOOD.replace("X: 1", "Transfer-Encoding: chunked"),
  "another value": GOOD.replace("X: 1", "X: 2"),
  "a line less": GOOD.replace("X: 1\r\n", ""),
  "no host": GOOD.replace("Host: a", "Y: b"),
  "another version": GOOD.replace("HTTP/1.1", "HTTP/1.0"),
  "another target": GOOD.replace("/v1", "/v2"),
  "another body": GOOD.replace("{}", "[]"),
  "a body cut short": GOOD.slice(0, -1),
  "two messages": `${GOOD}GET / HTTP/1.1\r\nHost: a\r\n\r\n`,
})) {
  test(`caught: ${name}`, () => assert.rejects(compare(bad, WANTED)));
}

// SPDX-License-Identifier: MIT
// Node.js's own HTTP/2 client: asks the URL given many times on one session, prints what came.
import http2 from "node:http2";

const [origin, path, count, body] = process.argv.slice(2);
const session = http2.connect(origin, { rejectUnauthorized: false });
await new Promise((known) => session.once("remoteSettings", known)); // how many streams it takes
const ask = () =>
    new Promise((done, fail) => {
        const stream = session.request({ ":method": body ? "POST" : "GET", ":path": path, "content-type": "application/json" });
        let status = 0;
        let text = "";
        stream.setEncoding("utf8");
        stream.on("response", (head) => (status = head[":status"]));
        stream.on("data", (part) => (text += part));
        stream.on("end", () => done({ status, text }));
        stream.on("error", fail);
        stream.end(body || undefined);
    });
const answers = await Promise.all(Array.from({ length: Number(count) }, ask));
console.log(JSON.stringify({ alpn: session.alpnProtocol, answers }));
session.close();

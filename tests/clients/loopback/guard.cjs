// Keeps a Node.js program on loopback: every other name or address is refused, and told in a file.
// For `node --require`; the file is named by TRIED_OUTSIDE.
"use strict";
const dns = require("node:dns");
const fs = require("node:fs");
const { syncBuiltinESMExports } = require("node:module");
const net = require("node:net");

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

function refusal(host) {
  fs.appendFileSync(process.env.TRIED_OUTSIDE, `${host}\n`);
  return Object.assign(new Error(`${host} is not on loopback`), { code: "ENOTFOUND", hostname: host });
}

for (const [name, real] of Object.entries(dns)) {
  if (!/^(lookup|resolve)/.test(name) || typeof real !== "function") continue;
  dns[name] = (host, ...rest) =>
    LOOPBACK.has(host) ? real(host, ...rest) : process.nextTick(rest.at(-1), refusal(host));
}
for (const [name, real] of Object.entries(dns.promises)) {
  if (!/^(lookup|resolve)/.test(name) || typeof real !== "function") continue;
  dns.promises[name] = async (host, ...rest) => {
    if (!LOOPBACK.has(host)) throw refusal(host);
    return real(host, ...rest);
  };
}

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  // Node's own callers hand over [options, callback] as one argument.
  const [first, ...rest] = Array.isArray(given[0]) ? given[0] : given;
  const options = typeof first === "object" ? first : { port: first, host: rest[0] };
  const { host, path } = options;
  if (path !== undefined || typeof host !== "string" || LOOPBACK.has(host)) return connect.apply(this, given);
  // As where a name has no address: a socket that is destroyed before it begins has nobody to hear its error yet.
  const lookup = (_name, _options, done) => process.nextTick(done, refusal(host));
  return connect.call(this, { ...options, host: "refused.invalid", lookup }, rest.at(-1));
};
syncBuiltinESMExports();

"use strict";

// JavaScript values as JSON in blobs, and back, by the rules of values.js. JSON.stringify makes null of NaN, leaves out
// what is undefined, and writes 2 ** 64 as another integer; JSON.parse rounds.

const { NotEncodable, plainer } = require("./values.js");

// As much as other parsers read.
const MAX_DEPTH = 127;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decodes the bytes of a JSON text. Throws if they are none, or JavaScript has no such value. */
function decodeJson(bytes) {
  const text = utf8.decode(bytes);
  const value = JSON.parse(text);
  // Strings are matched first, so that no digit in one is taken for a number.
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g)) {
    if (/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token))) {
      throw new Error(`${token.slice(0, 60)} is beyond 2^53 - 1, and JavaScript may round it; send it as a string`);
    }
  }
  check(value, 0);
  return value;
}

function check(value, depth) {
  if (typeof value === "string" && !value.isWellFormed()) throw new Error("a string has a lone surrogate");
  if (typeof value === "number" && !Number.isFinite(value)) throw new Error("a number is more than a double holds");
  if (typeof value !== "object" || value === null) return;
  if (depth === MAX_DEPTH) throw new Error("it is nested too deep");
  for (const [key, item] of Object.entries(value)) {
    check(key, depth + 1);
    check(item, depth + 1);
  }
}

/** Encodes a value as JSON text. Throws NotEncodable if it can't be sent as it is. */
function encodeJson(value) {
  return Buffer.from(write(value, 0));
}

function write(value, depth) {
  value = plainer(value);
  if (value === null) return "null";
  switch (typeof value) {
    case "number":
      return writeNumber(value);
    case "bigint":
    case "boolean":
      return String(value);
    case "string":
      return JSON.stringify(value);
  }
  if (depth === MAX_DEPTH) throw new NotEncodable("the result is nested too deep; is it a cycle?");
  if (Array.isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(",")}]`;
  const entries = Object.entries(value).map(([key, field]) => `${write(key, 0)}:${write(field, depth + 1)}`);
  return `{${entries.join(",")}}`;
}

function writeNumber(value) {
  if (Object.is(value, -0)) return "-0.0";
  // Without an exponent it would be an integer, and not the one that the double is.
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? value.toExponential() : String(value);
}

module.exports = { decodeJson, encodeJson };

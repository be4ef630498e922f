"use strict";

// JavaScript values as google.protobuf.Value, and back.

const { Value } = require("./proto.js");

// Beyond it, a double need not be the integer that was meant.
const MAX_INTEGER = BigInt(Number.MAX_SAFE_INTEGER);
// Other libraries refuse a reply that is nested deeper: 48 lists, or 32 objects.
const MAX_DEPTH = 96;

class NotEncodable extends Error {}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decodes the bytes of a Value. Throws if they are none. */
function decodeValue(bytes) {
  // Not as a Buffer: for those protobufjs cuts a string that is longer than the message instead of throwing.
  return fromMessage(Value.decode(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)), 0);
}

function fromMessage(value, depth) {
  if (depth > MAX_DEPTH) throw new Error("a value is nested too deep");
  const kinds = Object.keys(value);
  if (kinds.length === 0) throw new Error("an empty Value; send null_value for null");
  if (kinds.length > 1) throw new Error("a Value with more than one field");
  switch (value.kind) {
    case "nullValue":
      return null;
    case "numberValue":
      return value.numberValue;
    case "stringValue":
      return utf8.decode(value.stringValue);
    case "boolValue":
      return value.boolValue;
    case "listValue":
      if (depth + 2 > MAX_DEPTH) throw new Error("a value is nested too deep");
      return value.listValue.values.map((item) => fromMessage(item, depth + 2));
    case "structValue": {
      if (depth + 3 > MAX_DEPTH) throw new Error("a value is nested too deep");
      // An entry may leave out an empty key, and never its value.
      const { fields } = value.structValue;
      return Object.fromEntries(
        fields.map(({ key, value }) => [utf8.decode(Buffer.from(key)), fromMessage(value ?? {}, depth + 3)]),
      );
    }
    default:
      throw new Error("a Value of an unknown kind");
  }
}

/** Encodes a value. Throws NotEncodable if it can't be sent as it is: nothing is rounded or left out. */
function encodeValue(value) {
  return Value.encode(toMessage(value, 0)).finish();
}

function toMessage(value, depth) {
  value = plainer(value);
  if (value === null) return { nullValue: 0 };
  switch (typeof value) {
    case "boolean":
      return { boolValue: value };
    case "string":
      return { stringValue: Buffer.from(value) };
    case "number":
      return { numberValue: value };
    case "bigint":
      if (value > MAX_INTEGER || value < -MAX_INTEGER) {
        throw new NotEncodable(`${value} is beyond 2^53 - 1; return a string`);
      }
      return { numberValue: Number(value) };
  }
  if (depth + (Array.isArray(value) ? 2 : 3) > MAX_DEPTH) {
    throw new NotEncodable("the result is nested too deep; is it a cycle?");
  }
  if (Array.isArray(value)) return { listValue: { values: value.map((item) => toMessage(item, depth + 2)) } };
  const fields = Object.entries(value);
  const entry = ([key, field]) => ({ key: Buffer.from(plainer(key)), value: toMessage(field, depth + 3) });
  return { structValue: { fields: fields.map(entry) } };
}

/** Returns null, a boolean, string, number or bigint, an array without holes, or a plain object. Throws NotEncodable. */
function plainer(value) {
  // What a function without `return` returns. Never an empty message: it breaks the caller's whole reply.
  if (value === undefined || value === null) return null;
  if (typeof value === "string" && !value.isWellFormed()) {
    throw new NotEncodable("a string with a lone surrogate is no Unicode text");
  }
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new NotEncodable(`${value} can't be sent; return null or a string`);
  }
  if (["boolean", "string", "number", "bigint"].includes(typeof value)) return value;
  if (typeof value !== "object") throw new NotEncodable(`a ${typeof value} can't be sent`);
  if (Array.isArray(value)) return Array.from(value);
  if (value instanceof Date && Number.isNaN(value.getTime())) throw new NotEncodable("an invalid Date can't be sent");
  if (ArrayBuffer.isView(value)) {
    throw new NotEncodable(`a ${value.constructor.name} is no JSON; call with blobs to get bytes, or return text`);
  }
  if (typeof value.toJSON === "function") {
    const simpler = value.toJSON();
    if (typeof simpler?.toJSON === "function") throw new NotEncodable("what toJSON returns has a toJSON again");
    return plainer(simpler);
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new NotEncodable(`a ${value.constructor?.name ?? "strange object"} can't be sent; return a plain object`);
  }
  return value;
}

module.exports = { decodeValue, encodeValue, NotEncodable, plainer };

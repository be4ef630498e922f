"use strict";

// JavaScript values as google.protobuf.Value, and back.

const { Value } = require("./proto.js");

const MAX_INTEGER = 2n ** 53n;
// Other libraries refuse a reply that is nested deeper: 48 lists, or 32 objects.
const MAX_DEPTH = 96;

class NotEncodable extends Error {}

/** Decodes the bytes of a Value. Throws if they are none. */
function decodeValue(bytes) {
  // Not as a Buffer: for those protobufjs cuts a string that is longer than the message instead of throwing.
  return fromMessage(Value.decode(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)));
}

function fromMessage(value) {
  switch (value.kind) {
    case "nullValue":
      return null;
    case "numberValue":
      return value.numberValue;
    case "stringValue":
      return value.stringValue;
    case "boolValue":
      return value.boolValue;
    case "listValue":
      return value.listValue.values.map(fromMessage);
    case "structValue":
      return Object.fromEntries(Object.entries(value.structValue.fields).map(([key, field]) => [key, fromMessage(field)]));
    default:
      throw new Error("an empty Value; send null_value for null");
  }
}

/** Encodes a value. Throws NotEncodable if it can't be sent as it is: nothing is rounded or left out. */
function encodeValue(value) {
  return Value.encode(toMessage(value, 0)).finish();
}

function toMessage(value, depth) {
  if (depth > MAX_DEPTH) throw new NotEncodable("the result is nested too deep");
  switch (typeof value) {
    case "undefined":
      // What a function without `return` returns. Never an empty message: it breaks the caller's whole reply.
      return { nullValue: 0 };
    case "boolean":
      return { boolValue: value };
    case "string":
      return { stringValue: value };
    case "number":
      if (!Number.isFinite(value)) throw new NotEncodable(`${value} can't be sent; return null or a string`);
      return { numberValue: value };
    case "bigint":
      if (value > MAX_INTEGER || value < -MAX_INTEGER) {
        throw new NotEncodable(`${value} is beyond 2^53; return a string`);
      }
      return { numberValue: Number(value) };
    case "object":
      return objectToMessage(value, depth);
    default:
      throw new NotEncodable(`a ${typeof value} can't be sent`);
  }
}

function objectToMessage(value, depth) {
  if (value === null) return { nullValue: 0 };
  if (Array.isArray(value)) return { listValue: { values: value.map((item) => toMessage(item, depth + 2)) } };
  if (typeof value.toJSON === "function") return toMessage(value.toJSON(), depth + 1);
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new NotEncodable(`a ${value.constructor?.name ?? "strange object"} can't be sent; return a plain object`);
  }
  const fields = Object.entries(value).map(([key, field]) => [key, toMessage(field, depth + 3)]);
  return { structValue: { fields: Object.fromEntries(fields) } };
}

module.exports = { decodeValue, encodeValue, NotEncodable };

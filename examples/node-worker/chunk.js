"use strict";

// A chunk of items as a Run frame carries it: from items to arguments, from what a function returns to results.

const { ApplyArguments, CallStyle, FailureKind, ItemKind, List } = require("./proto.js");
const { decodeValue, encodeValue, NotEncodable } = require("./values.js");

const MAX_TEXT = 16 << 10;
// More than a Results frame has beside its item.
const RESULTS_OVERHEAD = 128;

class InvalidItem extends Error {}

class Chunk {
  constructor(run) {
    this.run = run;
    this.id = run.chunk.toString();
    this.items = List.decode(run.items).items;
    if (this.items.length !== run.count) throw new Error(`chunk ${this.id} does not have the items that it says`);
    /** How many items have begun. */
    this.numBegun = 0;
    /** From here on none will begin. */
    this.end = run.count;
    this.wasRecalled = false;
    this.abort = new AbortController();

    const isBlobs = run.kind === ItemKind.ITEM_KIND_BLOBS;
    this.isJson = isBlobs && run.contentType === "application/json";
    this.isBytes = isBlobs && !this.isJson;
    // At the place of a failed item stands null, or an empty blob.
    this.placeholder = isBlobs ? Buffer.alloc(0) : encodeValue(null);
  }

  /** Returns what to call the function with. */
  arguments(offset) {
    const content = this.items[offset];
    try {
      switch (this.run.style) {
        case CallStyle.CALL_STYLE_MAP:
          return [this.decode(content)];
        case CallStyle.CALL_STYLE_STAR:
          return this.starArguments(content);
        default:
          return this.applyArguments(content);
      }
    } catch (error) {
      throw error instanceof InvalidItem ? error : new InvalidItem(error.message);
    }
  }

  starArguments(content) {
    const list = this.isBytes ? null : this.decode(content);
    if (!Array.isArray(list)) throw new InvalidItem("it is not a list of arguments");
    return list;
  }

  applyArguments(content) {
    const { args, kwargs } = ApplyArguments.decode(content);
    if (kwargs.length > 0) throw new InvalidItem("functions in JavaScript take no keyword arguments");
    return List.decode(args).items.map((argument) => this.decode(argument));
  }

  decode(content) {
    if (this.isBytes) return content;
    return this.isJson ? JSON.parse(content.toString()) : decodeValue(content);
  }

  encode(result) {
    if (this.isBytes) {
      if (result instanceof Uint8Array) return result;
      throw new NotEncodable("the item was bytes, and so must the result be: return a Buffer");
    }
    if (!this.isJson) return encodeValue(result);
    // JSON.stringify makes null of NaN without a word, and of undefined nothing at all.
    encodeValue(result);
    return Buffer.from(JSON.stringify(result ?? null));
  }

  /** Runs one item. Returns a Results message. */
  async runItem(offset, definition, maxFrameBytes) {
    const begin = process.hrtime.bigint();
    let content = this.placeholder;
    let failures = [];
    try {
      if (!definition) throw new UnknownFunction(`this worker has no function ${JSON.stringify(this.run.function)}`);
      content = this.encode(await definition.call(...this.arguments(offset)));
      if (content.length + RESULTS_OVERHEAD > maxFrameBytes) {
        throw new NotEncodable(`the result has ${content.length} bytes, which no frame holds`);
      }
    } catch (error) {
      content = this.placeholder;
      failures = [describe(error, offset, Math.min(MAX_TEXT, maxFrameBytes >> 2))];
    }
    const busyNs = Number(process.hrtime.bigint() - begin);
    const items = List.encode({ items: [content] }).finish();
    return { chunk: this.run.chunk, first: offset, count: 1, failures, busyNs, items };
  }
}

class UnknownFunction extends Error {}

/** Returns an ItemFailure. Anything may have been thrown. */
function describe(error, offset, maxText) {
  const failure = { offset, kind: kindOf(error), message: cut(String(error?.message ?? error), maxText) };
  if (failure.kind === FailureKind.FAILURE_KIND_RAISED) {
    failure.type = cut(error?.constructor?.name ?? typeof error, 256);
    failure.traceback = cut(String(error?.stack ?? ""), maxText);
  }
  return failure;
}

function kindOf(error) {
  if (error instanceof UnknownFunction) return FailureKind.FAILURE_KIND_UNKNOWN_FUNCTION;
  if (error instanceof InvalidItem) return FailureKind.FAILURE_KIND_INVALID_ITEM;
  if (error instanceof NotEncodable) return FailureKind.FAILURE_KIND_NOT_ENCODABLE;
  return FailureKind.FAILURE_KIND_RAISED;
}

function cut(text, maxBytes) {
  // At most three bytes of UTF-8 for each of JavaScript's characters.
  return text.length * 3 <= maxBytes ? text : `${text.slice(0, Math.floor(maxBytes / 3) - 2)} …`;
}

module.exports = { Chunk };

"use strict";

// A chunk of items as a Run frame carries it: from items to arguments, from what a function returns to results.

const { ApplyArguments, CallPart, CallStyle, FailureKind, ItemKind, List } = require("./proto.js");
const { decodeJson, encodeJson } = require("./json.js");
const { decodeValue, encodeValue, NotEncodable } = require("./values.js");

const MAX_TEXT = 16 << 10;
// More than a Results frame has beside its item.
const RESULTS_OVERHEAD = 128;

class InvalidItem extends Error {
  /** What is wrong with the call, if it is not the item. */
  part = CallPart.CALL_PART_UNSPECIFIED;
}

function invalid(part, message) {
  return Object.assign(new InvalidItem(message), { part });
}

/** An argument that all items of a job share: decoded when the first of them runs, and kept. */
class Common {
  constructor({ kind, contentType, value }) {
    this.encoding = encodingOf(kind, contentType);
    this.content = value;
    this.isDecoded = false;
  }

  /** Returns it, the same object each time. */
  get() {
    if (!this.isDecoded) {
      try {
        this.value = decode(this.encoding, this.content);
      } catch (error) {
        throw invalid(CallPart.CALL_PART_COMMON, `\`common\` can't be decoded: ${error.message}`);
      }
      this.content = null;
      this.isDecoded = true;
    }
    return this.value;
  }
}

/** Tells how items, results or a common argument are encoded. */
function encodingOf(kind, contentType) {
  if (kind !== ItemKind.ITEM_KIND_BLOBS) return "values";
  return contentType === "application/json" ? "json" : "bytes";
}

function decode(encoding, content) {
  if (encoding === "bytes") return content;
  return encoding === "json" ? decodeJson(content) : decodeValue(content);
}

class Chunk {
  constructor(run, common) {
    this.run = run;
    this.common = common;
    this.id = run.chunk.toString();
    this.items = List.decode(run.items).items;
    if (this.items.length !== run.count) throw new Error(`chunk ${this.id} does not have the items that it says`);
    /** How many items have begun. */
    this.numBegun = 0;
    /** From here on none will begin. */
    this.end = run.count;
    this.wasRecalled = false;
    this.abort = new AbortController();

    this.encoding = encodingOf(run.kind, run.contentType);
    // At the place of a failed item stands null, or an empty blob.
    this.placeholder = this.encoding === "values" ? encodeValue(null) : Buffer.alloc(0);
  }

  /** Returns what to call the function with. */
  arguments(offset) {
    const common = this.common === null ? [] : [this.common.get()];
    return [...common, ...this.itemArguments(this.items[offset])];
  }

  itemArguments(content) {
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
    const list = this.encoding === "bytes" ? null : this.decode(content);
    if (!Array.isArray(list)) throw new InvalidItem("it is not a list of arguments");
    return list;
  }

  applyArguments(content) {
    const { args, kwargs } = ApplyArguments.decode(content);
    if (kwargs.length > 0) throw invalid(CallPart.CALL_PART_KWARGS, "functions in JavaScript take no keyword arguments");
    return List.decode(args).items.map((argument) => this.decode(argument));
  }

  decode(content) {
    return decode(this.encoding, content);
  }

  encode(result) {
    if (this.encoding === "bytes") {
      if (result instanceof Uint8Array) return result;
      throw new NotEncodable("the item was bytes, and so must the result be: return a Buffer");
    }
    return this.encoding === "values" ? encodeValue(result) : encodeJson(result);
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
  if (error instanceof InvalidItem) failure.part = error.part;
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

module.exports = { Chunk, Common };

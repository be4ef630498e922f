"use strict";

// The conversation with the server: frames in and out, what is queued, what was recalled, and the end.
//
// Node runs one thing at a time. So while a function computes, nobody reads; between two items the worker lets the
// frames in, and while an async function waits, too. It keeps no progress page: it says Started before each item.

const net = require("node:net");
const v8 = require("node:v8");
const vm = require("node:vm");
const { setImmediate: letFramesIn } = require("node:timers/promises");
const { ServerFrame, WorkerFrame } = require("./proto.js");
const { Chunk, Common } = require("./chunk.js");

const PROTOCOL_VERSION = 1;
const LENGTH_BYTES = 4;
// Until Welcome tells the real limit.
const MAX_WELCOME_BYTES = 64 << 10;
const KEPT_BYTES = 64 << 10;

// What is worth collecting as garbage before the worker waits for more. V8 does so when it needs room, and an idle worker
// needs none.
const LARGE_BYTES = 1 << 20;
v8.setFlagsFromString("--expose-gc");
const collectGarbage = vm.runInNewContext("gc");

let running = null;

/** Returns the AbortSignal of the item that runs: aborted when nobody waits for its result any more. */
function currentSignal() {
  return running.abort.signal;
}

/** Serves these functions until the server is done with this worker. */
function serve(functions) {
  new Channel(connect(), functions);
}

function connect() {
  const { PROCPOOL_FD: fd, PROCPOOL_SOCKET: path } = process.env;
  if (fd) return new net.Socket({ fd: Number(fd) });
  if (path) return net.connect(path);
  console.error("neither PROCPOOL_FD nor PROCPOOL_SOCKET is set: start this with `procpool serve -- node worker.js`");
  return process.exit(1);
}

class Channel {
  constructor(socket, functions) {
    this.socket = socket;
    this.functions = new Map(Object.entries(functions));
    /** What has come of the frame that is awaited, and of those behind it, in pieces, and how long these are together. */
    this.pieces = [];
    this.numReceived = 0;
    this.maxFrameBytes = 0;
    this.queue = [];
    /** The arguments that the items of a job share, by name. */
    this.commons = new Map();
    this.isStopping = false;
    this.hasHadLarge = false;
    socket.on("data", (data) => this.receive(data));
    // The server is gone, and nobody will take another result.
    socket.on("end", () => process.exit(0));
    socket.on("error", () => process.exit(0));
  }

  receive(data) {
    this.pieces.push(data);
    this.numReceived += data.length;
    try {
      for (let frame = this.nextFrame(); frame !== null; frame = this.nextFrame()) this.handle(ServerFrame.decode(frame));
    } catch (error) {
      console.error(`the server broke the protocol: ${error.message}`);
      process.exit(1);
    }
  }

  /** Returns the next frame if it is whole; null if more must come. */
  nextFrame() {
    if (this.numReceived < LENGTH_BYTES) return null;
    if (this.pieces[0].length < LENGTH_BYTES) this.pieces = [Buffer.concat(this.pieces)];
    const length = this.pieces[0].readUInt32BE(0);
    const limit = this.maxFrameBytes || MAX_WELCOME_BYTES;
    if (length > limit) throw new Error(`a frame of ${length} bytes is over the limit of ${limit}`);
    const end = LENGTH_BYTES + length;
    if (this.numReceived < end) return null;
    const received = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces);
    // A copy of the rest, which is short: a part of the whole would keep all of it.
    const rest = received.subarray(end);
    this.pieces = rest.length === 0 ? [] : [length > KEPT_BYTES ? Buffer.from(rest) : rest];
    this.numReceived = rest.length;
    return received.subarray(LENGTH_BYTES, end);
  }

  handle(message) {
    if ((message.frame === "welcome") !== (this.maxFrameBytes === 0)) {
      throw new Error("Welcome is not the first frame, or not the only one of its kind");
    }
    switch (message.frame) {
      case "welcome":
        return this.greet(message.welcome);
      case "run":
        this.queue.push(new Chunk(message.run, this.commonOf(message.run)));
        if (this.queue.length === 1 && running === null) this.runQueue();
        return undefined;
      case "recall":
        return this.recall(message.recall);
      case "setCommon":
        this.commons.set(message.setCommon.common.toString(), new Common(message.setCommon));
        return undefined;
      case "dropCommon":
        this.commons.delete(message.dropCommon.common.toString());
        return undefined;
      case "ping":
        return this.send({ pong: { nonce: message.ping.nonce } });
      case "shutdown":
        this.isStopping = true;
        if (running === null) this.stop();
        return undefined;
      default:
        throw new Error("an unknown frame");
    }
  }

  greet(welcome) {
    if (welcome.protocolVersion !== PROTOCOL_VERSION) throw new Error(`it speaks version ${welcome.protocolVersion}`);
    if (welcome.maxFrameBytes < 1024) throw new Error(`max_frame_bytes is ${welcome.maxFrameBytes}`);
    this.maxFrameBytes = welcome.maxFrameBytes;
    const describe = ([name, { signature, doc, example, idempotent }]) =>
      ({ name, signature, doc, example: example && JSON.stringify(example), idempotent });
    this.send({
      hello: {
        protocolVersion: PROTOCOL_VERSION,
        sdk: `procpool-node-example (Node ${process.versions.node})`,
        pid: process.pid,
        functions: [...this.functions].map(describe),
        usesProgressPage: false,
        takesCommon: true,
      },
    });
    this.send({ ready: {} });
  }

  /** Returns the argument that goes before each item of a chunk. It may be dropped before the chunk has run. */
  commonOf(run) {
    const name = run.common.toString();
    if (name === "0") return null;
    const common = this.commons.get(name);
    if (!common) throw new Error(`chunk ${run.chunk} names the common argument ${name}, which is not here`);
    return common;
  }

  /** Runs what is queued, one item after the other. */
  async runQueue() {
    while (this.queue.length > 0 && !this.isStopping) {
      running = this.queue.shift();
      await this.runChunk(running);
      running = null;
    }
    if (this.isStopping) return this.stop();
    if (this.hasHadLarge) setImmediate(collectGarbage);
    this.hasHadLarge = false;
  }

  async runChunk(chunk) {
    const definition = this.functions.get(chunk.run.function);
    while (chunk.numBegun < chunk.end && !this.isStopping) {
      const offset = chunk.numBegun;
      chunk.numBegun += 1;
      this.send({ started: { chunk: chunk.run.chunk, offset } });
      // It must have left before the item begins; and a server that is slow to read holds us up, not our memory.
      if (this.socket.writableLength > 0) await new Promise((resolve) => this.socket.write("", resolve));
      const results = await chunk.runItem(offset, definition, this.maxFrameBytes);
      this.hasHadLarge ||= Math.max(chunk.run.items.length, results.items.length) > LARGE_BYTES;
      this.send({ results });
      await letFramesIn();
    }
  }

  recall(recall) {
    const { chunk: name, cancel } = recall;
    const id = name.toString();
    const queued = this.queue.findIndex((chunk) => chunk.id === id);
    if (queued >= 0) {
      this.queue.splice(queued, 1);
      this.send({ recalled: { chunk: name, firstNotBegun: 0 } });
    } else if (running?.id === id) {
      // The item that is meant may have ended, and another run.
      const isMeant = !Object.hasOwn(recall, "cancelOffset") || recall.cancelOffset === running.numBegun - 1;
      if (cancel && isMeant) running.abort.abort();
      if (running.wasRecalled) return;
      running.wasRecalled = true;
      running.end = running.numBegun;
      this.send({ recalled: { chunk: name, firstNotBegun: running.end } });
    }
    // Otherwise it is finished, or was recalled before.
  }

  stop() {
    this.socket.end(() => process.exit(0));
  }

  send(frame) {
    const body = WorkerFrame.encode(frame).finish();
    const bytes = Buffer.allocUnsafe(LENGTH_BYTES + body.length);
    bytes.writeUInt32BE(body.length);
    bytes.set(body, LENGTH_BYTES);
    this.socket.write(bytes);
  }
}

module.exports = { serve, currentSignal };

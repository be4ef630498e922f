"use strict";

// The messages, read from the .proto file when the worker starts.

const path = require("node:path");
const protobuf = require("protobufjs");

const PROTO = path.join(__dirname, "../../proto/procpool/worker/v1/worker.proto");

const worker = protobuf.loadSync(PROTO).lookup("procpool.worker.v1");
const wellKnown = protobuf.Root.fromJSON(protobuf.common.get("google/protobuf/struct.proto"));

// ListValue and BlobList have this shape on the wire: so each item can be decoded, and fail, by itself.
const list = protobuf.Root.fromJSON({
  nested: { List: { fields: { items: { rule: "repeated", type: "bytes", id: 1 } } } },
});

module.exports = {
  ServerFrame: worker.lookupType("ServerFrame"),
  WorkerFrame: worker.lookupType("WorkerFrame"),
  ApplyArguments: worker.lookupType("ApplyArguments"),
  ItemKind: worker.lookupEnum("ItemKind").values,
  CallStyle: worker.lookupEnum("CallStyle").values,
  CallPart: worker.lookupEnum("CallPart").values,
  FailureKind: worker.lookupEnum("FailureKind").values,
  Value: wellKnown.lookupType("google.protobuf.Value"),
  List: list.lookupType("List"),
};

"use strict";

// The messages, read from the .proto file when the worker starts.

const path = require("node:path");
const protobuf = require("protobufjs");

const PROTO = path.join(__dirname, "../../proto/procpool/worker/v1/worker.proto");

const worker = protobuf.loadSync(PROTO).lookup("procpool.worker.v1");

// google.protobuf.Value on the wire, with texts as bytes and maps as lists of entries: so that what is no UTF-8 can be
// refused, which protobufjs would replace, and no key is special.
const values = protobuf.Root.fromJSON({
  nested: {
    Value: {
      oneofs: { kind: { oneof: ["nullValue", "numberValue", "stringValue", "boolValue", "structValue", "listValue"] } },
      fields: {
        nullValue: { type: "int32", id: 1 },
        numberValue: { type: "double", id: 2 },
        stringValue: { type: "bytes", id: 3 },
        boolValue: { type: "bool", id: 4 },
        structValue: { type: "Struct", id: 5 },
        listValue: { type: "ListValue", id: 6 },
      },
    },
    ListValue: { fields: { values: { rule: "repeated", type: "Value", id: 1 } } },
    Struct: { fields: { fields: { rule: "repeated", type: "Entry", id: 1 } } },
    Entry: { fields: { key: { type: "bytes", id: 1 }, value: { type: "Value", id: 2 } } },
  },
});

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
  Value: values.lookupType("Value"),
  List: list.lookupType("List"),
};

"use strict";

// The Node worker that is held against the table of values: it tells what it got, and makes what is hard to send.

const { serve } = require("../examples/node-worker/channel.js");
const { encodeJson } = require("../examples/node-worker/json.js");

const show = (item) => (typeof item === "number" && !Number.isFinite(item) ? String(item) : encodeJson(item).toString());

class Point {
  x = 1;
}

const nested = (levels, wrap) => {
  let value = 1;
  for (let level = 0; level < levels; level += 1) value = wrap(value);
  return value;
};

const cycle = () => {
  const list = [];
  list.push(list);
  return list;
};

serve({
  shown: { doc: "Tells what came.", signature: "(item)", call: show },
  shown_common: { doc: "Tells what came in common.", signature: "(common, _)", call: (common) => show(common) },
  make: {
    doc: "Returns the value of a JavaScript expression.",
    signature: "(expression)",
    // In brackets, so that an object is not taken for a block.
    call: (expression) => new Function("Point", "nested", "cycle", `return (${expression})`)(Point, nested, cycle),
  },
});

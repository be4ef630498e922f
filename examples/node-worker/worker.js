"use strict";

// A procpool worker in Node: its functions. How it talks to the server is in channel.js, chunk.js and values.js.

const { serve, currentSignal } = require("./channel.js");

const functions = {
  echo: {
    doc: "Returns its argument.",
    signature: "(item)",
    example: { function: "echo", values: [1, "two", [3]] },
    idempotent: true,
    call: (item) => item,
  },

  power: {
    doc: "Raises a number to a power.",
    signature: "(base, exponent)",
    example: { function: "power", values: [[2, 10], [3, 3]] },
    idempotent: true,
    call: (base, exponent) => base ** exponent,
  },

  lookup: {
    doc: "Returns what an object has at a key, or null; the object is the common argument of a map.",
    signature: "(object, key)",
    example: { function: "lookup", common_value: { a: 1, b: 2 }, values: ["a", "b"] },
    idempotent: true,
    call: (object, key) => (Object.hasOwn(object, key) ? object[key] : null),
  },

  is_prime: {
    doc: "Tells whether a whole number is prime, by trial division.",
    signature: "(n)",
    example: { function: "is_prime", values: [2, 3, 4] },
    idempotent: true,
    call: (n) => {
      if (!Number.isSafeInteger(n)) throw new TypeError(`${n} is no whole number`);
      for (let divisor = 2; divisor * divisor <= n; divisor += 1) {
        if (n % divisor === 0) return false;
      }
      return n > 1;
    },
  },

  fail: {
    doc: "Throws an error with this message.",
    signature: "(message)",
    example: { function: "fail", values: ["no luck"] },
    call: (message) => {
      throw new RangeError(message);
    },
  },

  sleep_ms: {
    doc: "Sleeps so many milliseconds; less if it is cancelled.",
    signature: "(milliseconds)",
    example: { function: "sleep_ms", values: [100, 200] },
    call: (milliseconds) =>
      new Promise((resolve) => {
        const begin = Date.now();
        const signal = currentSignal();
        // A timer may fire a little early by this clock.
        const timer = setTimeout(() => resolve(milliseconds), milliseconds);
        const cancel = () => {
          clearTimeout(timer);
          resolve(Math.min(milliseconds, Date.now() - begin));
        };
        signal.addEventListener("abort", cancel, { once: true });
      }),
  },
};

serve(functions);

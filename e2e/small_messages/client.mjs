// grpc-js: streams items one by one into IMapStream, as fast as it may; `undrained`: looks at results when it can send no
// more. The messages are made by hand, so that three languages send the same 18 bytes.

import grpc from "@grpc/grpc-js";

const [address, numItems, mode] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const PATH = "/procpool.v1.PoolService/";
const asIs = (bytes) => bytes;
const field = (number, content) => Buffer.concat([Buffer.from([(number << 3) | 2, content.length]), content]);

/** Yields the numbers of the fields of a message, and what those with a length contain. */
function* fields(message) {
  let position = 0;
  const takeVarint = () => {
    let number = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[position++];
      number += (byte & 127) * 2 ** shift;
      if (byte < 128) return number;
    }
  };
  while (position < message.length) {
    const key = takeVarint();
    const length = takeVarint();
    if ((key & 7) === 2) {
      yield [key >> 3, message.subarray(position, position + length)];
      position += length;
    }
  }
}

const number = Buffer.alloc(9);
number[0] = 0x11;
number.writeDoubleLE(1, 1);
const NAME = field(1, Buffer.from("sleep_ms"));
const VALUES = field(1, number);

const client = new grpc.Client(address, grpc.credentials.createInsecure());
const stream = client.makeBidiStreamRequest(PATH + "IMapStream", asIs, asIs, new grpc.Metadata());
let [received, sent] = [0, 0];

const ended = new Promise((resolve, reject) => {
  stream.on("error", reject);
  stream.on("end", resolve);
});
const read = () =>
  stream.on("data", (message) => {
    for (const [number, content] of fields(message)) if (number === 3) received += [...fields(content)].length;
  });
const write = (message) =>
  new Promise((resolve) => (stream.write(message) ? resolve() : stream.once("drain", resolve)));

async function send() {
  await write(field(1, NAME));
  for (; sent < numItems; sent++) await write(field(2, VALUES));
  stream.end();
}

/** Another call on the connection. */
const other = () =>
  new Promise((resolve, reject) => {
    const request = Buffer.concat([NAME, field(2, VALUES)]);
    client.makeUnaryRequest(PATH + "Map", asIs, asIs, request, (error) => (error ? reject(error) : resolve()));
  });

const sending = send();
if (mode === "undrained") {
  // How long it takes to be held up is the machine's business.
  for (let before = -1; before !== sent; ) {
    before = sent;
    await other();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}
read();
await sending;
await ended;
console.log(received, "results");
client.close();

// Every verb of procpool with Node's @grpc/grpc-js: node client.mjs HOST:PORT|unix:/PATH [FOLDER_OF_THE_PROTO_FILES]

import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const [address, protos = fileURLToPath(new URL('../../../proto', import.meta.url))] = process.argv.slice(2);
const definition = protoLoader.loadSync(['procpool/v1/pool.proto', 'google/rpc/error_details.proto'], {
  includeDirs: [protos],
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { PoolService } = grpc.loadPackageDefinition(definition).procpool.v1;

// The library calls again by itself, when and where the server says that it may. Only of a connection that breaks can the
// server say nothing: leave UNAVAILABLE out if no item may run twice, whatever happens.
const serviceConfig = {
  methodConfig: [
    {
      name: [{ service: 'procpool.v1.PoolService' }],
      // A call waits for a server that is just starting.
      waitForReady: true,
      retryPolicy: {
        maxAttempts: 5,
        initialBackoff: '0.2s',
        maxBackoff: '5s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE', 'RESOURCE_EXHAUSTED'],
      },
    },
  ],
};
const pool = new PoolService(address, grpc.credentials.createInsecure(), {
  'grpc.service_config': JSON.stringify(serviceConfig),
  // The server sends up to 64 MiB in a message; grpc takes 4 MiB if nobody says so.
  'grpc.max_receive_message_length': 64 << 20,
  // Notice within a minute that the server's machine has gone.
  'grpc.keepalive_time_ms': 40_000,
  'grpc.keepalive_timeout_ms': 20_000,
});

const show = (title, value) => console.log(`${title}: ${JSON.stringify(value)}`);
const deadline = (seconds) => ({ deadline: Date.now() + seconds * 1000 });

// Returns the answer of a unary call, or throws its error.
function call(method, request, seconds = 60) {
  return new Promise((resolve, reject) => {
    pool[method](request, deadline(seconds), (error, response) => (error ? reject(error) : resolve(response)));
  });
}

// Items and results: any JSON value as a google.protobuf.Value, and back.
function toValue(item) {
  if (item === null) return { nullValue: 'NULL_VALUE' };
  if (typeof item === 'number' && Number.isInteger(item) && !Number.isSafeInteger(item)) {
    throw new RangeError(`${item} may have been rounded: send it as a string, or as JSON in a blob`);
  }
  if (typeof item === 'number') return { numberValue: item };
  if (typeof item === 'boolean') return { boolValue: item };
  if (typeof item === 'string') return { stringValue: item };
  if (Array.isArray(item)) return { listValue: toValues(item) };
  return { structValue: toStruct(item) };
}

function toValues(items) {
  return { values: items.map(toValue) };
}

function toStruct(object) {
  return { fields: Object.fromEntries(Object.entries(object).map(([key, item]) => [key, toValue(item)])) };
}

function fromValue(value) {
  switch (value.kind) {
    case 'nullValue':
      return null;
    case 'listValue':
      return fromValues(value.listValue);
    case 'structValue':
      return Object.fromEntries(Object.entries(value.structValue.fields).map(([key, part]) => [key, fromValue(part)]));
    default:
      return value[value.kind];
  }
}

function fromValues(list) {
  return list.values.map(fromValue);
}

// The results of one message of a stream, each with its index: they follow the first, or all are named.
function resultsOf(response) {
  const { firstIndex: first, indexes, values } = response;
  return fromValues(values ?? { values: [] }).map((result, i) => ({ index: indexes[i] ?? first + i, result }));
}

// What a failed call says: its code, its reason, and the details that help.
function describe(error) {
  const [status] = error.metadata.get('grpc-status-details-bin');
  // Without details, the error comes from the client library and not from the server.
  if (!status) return `${grpc.status[error.code]}: ${error.details}`;
  return describeStatus(definition['google.rpc.Status'].deserialize(status));
}

// What a google.rpc.Status says, of a call or of one item.
function describeStatus({ code, message, details }) {
  const unpacked = {};
  for (const { type_url: url, value } of details) {
    const name = url.split('/').pop();
    unpacked[name] = definition[name]?.deserialize(value);
  }
  const { reason, metadata } = unpacked['google.rpc.ErrorInfo'];
  const item = 'index' in metadata ? `item ${metadata.index}: ` : '';
  const violations = unpacked['google.rpc.BadRequest']?.fieldViolations ?? [];
  const traceback = unpacked['google.rpc.DebugInfo']?.stackEntries ?? [];
  return [
    `${grpc.status[code]} ${reason}: ${item}${message}`,
    ...violations.map(({ field }) => `  wrong field: ${field}`),
    ...traceback.slice(-2).map((line) => `  remote: ${line.trim()}`),
  ].join('\n');
}

async function unaryCalls() {
  const matches = await call('Map', { function: 'analyze_match', values: toValues([1, 2]) });
  show('Map', fromValues(matches.values));

  const powers = await call('StarMap', { function: 'power', values: toValues([[2, 10], [3, 3]]) });
  show('StarMap', fromValues(powers.values));

  const power = await call('Apply', { function: 'power', values: toValues([2]), kwargs: toStruct({ exponent: 5 }) });
  show('Apply with a keyword argument', fromValue(power.value));

  const options = { onError: 'ON_ERROR_COLLECT' };
  const roots = await call('Map', { function: 'square_root', values: toValues([4, -1, 9]), options });
  show('Map that collects errors', fromValues(roots.values));
  for (const { status } of roots.errors) console.log(`  ${describeStatus(status)}`);
}

async function streams() {
  for await (const response of pool.IMap({ function: 'is_prime', values: toValues([7, 8, 9, 10, 11]) }, deadline(60))) {
    for (const { index, result } of resultsOf(response)) show(`IMap, item ${index}`, result);
  }

  // Two workers run both items at once; the one that ends first comes first.
  const request = { function: 'rest', values: toValues([1, 0]), order: 'RESULT_ORDER_UNORDERED' };
  for await (const response of pool.IMap(request, deadline(60))) {
    for (const { index, result } of resultsOf(response)) show(`IMap as they finish, item ${index}`, result);
  }
}

// Feeds an endless input: makes no more of it than the server allows, and tells it what has been taken.
async function endlessInput() {
  const stream = pool.IMapStream(deadline(60));
  stream.write({ config: { function: 'is_prime', reportsTaken: true } });
  const primes = [];
  let [sent, taken] = [0, 0];
  try {
    for await (const response of stream) {
      const results = resultsOf(response);
      for (const { index, result } of results) if (result) primes.push(index);
      if (primes.length >= 1000) break;
      taken += results.length;
      const items = Array.from({ length: response.itemsAllowed - sent }, (_, i) => sent + i);
      sent += items.length;
      stream.write({ values: toValues(items), resultsTaken: taken });
    }
  } finally {
    stream.cancel(); // Leaving the loop does not end the call.
  }
  show('IMapStream, the 1000th prime', primes[999]);
}

async function errors() {
  for (const [title, method, name, items] of [
    ['The function raised', 'Map', 'square_root', [4, -1]],
    ['No such function', 'Map', 'analyse_match', [1]],
    ['An item of the wrong form', 'StarMap', 'power', [[2, 1], 3]],
  ]) {
    await call(method, { function: name, values: toValues(items) }).catch((error) => {
      console.log(`${title}: ${describe(error)}`);
    });
  }
}

async function deadlines() {
  const request = { function: 'rest', values: toValues(Array(1000).fill(0.2)) };
  await call('Map', request, 0.5).catch(({ code }) => {
    console.log(`Map, after its deadline: ${grpc.status[code]}`);
  });

  let results = 0;
  try {
    for await (const response of pool.IMap(request, deadline(1))) results += resultsOf(response).length;
  } catch ({ code }) {
    console.log(`IMap, after its deadline: ${grpc.status[code]}, ${results ? 'some' : 'no'} results came before`);
  }
}

async function cancel() {
  const stream = pool.IMap({ function: 'rest', values: toValues([0, ...Array(1000).fill(0.5)]) }, deadline(600));
  try {
    for await (const response of stream) {
      show('IMap, the first result', resultsOf(response)[0].result);
      stream.cancel();
    }
  } catch ({ code }) {
    console.log(`IMap, after a cancel: ${grpc.status[code]}`);
  }
  const rests = await call('Map', { function: 'rest', values: toValues([0, 0]) }, 10);
  show('The slots are free again', fromValues(rests.values));
}

await unaryCalls();
await streams();
await endlessInput();
await errors();
await deadlines();
await cancel();
pool.close();

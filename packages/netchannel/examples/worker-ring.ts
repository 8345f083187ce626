import { createRing, openConsumer, openProducer } from "@x/netchannel";

// One thread makes the ring and posts it to the other: worker.postMessage({ ring }).
const ring = createRing({ capacity: 2 ** 20 });

// The sending thread:
const producer = openProducer(ring);
producer.send(new TextEncoder().encode("hello"), 7);
producer.close();

// The receiving thread. In a worker, consumer.wait() would block instead.
for await (const record of openConsumer(ring)) console.log(new TextDecoder().decode(record));

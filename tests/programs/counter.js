const { Worker } = require("worker_threads");
let n = 0, ticks = 0, fromWorker = 0;
setInterval(() => { ticks++; }, 5);
const worker = new Worker(`const { parentPort } = require("worker_threads");
  parentPort.on("message", (n) => {
    let s = 0; for (let i = 0; i < 1000; i++) s += i % n; parentPort.postMessage(s); });`,
  { eval: true });
worker.on("message", () => { fromWorker++; });
require("net").createServer((socket) => socket.on("data", () => {
  const before = [ticks, fromWorker];
  worker.postMessage(7);
  const wait = () => (ticks > before[0] && fromWorker > before[1]) ? socket.write(`${++n}\n`) : setTimeout(wait, 2);
  wait();
})).listen(+process.argv[2], "127.0.0.1");

// Socket.IO 4 as its documentation recommends it for production on one core: WebSocket only, ws with its native
// add-ons, the Redis adapter, no reference kept to the handshake's request. A user is a room; every message is
// answered by an acknowledgement. The Redis client writes the commands of a turn of the loop together.
//
//   PEER_REDIS=/path/of/redis.sock PEER_SECRET=… node server.js      prints its address

const { createServer } = require("node:http");
const Redis = require("ioredis");
const jwt = require("jsonwebtoken");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");

const secret = process.env.PEER_SECRET;
// https://github.com/redis/ioredis#autopipelining: a third less for a message.
const publisher = new Redis(process.env.PEER_REDIS, { enableAutoPipelining: true });
const subscriber = publisher.duplicate();

const server = createServer();
const io = new Server(server, {
  transports: ["websocket"],
  serveClient: false,
  perMessageDeflate: false,
  adapter: createAdapter(publisher, subscriber),
});

// https://socket.io/docs/v4/performance-tuning: saves the memory of the handshake's request.
io.engine.on("connection", (raw) => {
  raw.request = null;
});

io.use((socket, next) => {
  try {
    socket.data.user = jwt.verify(socket.handshake.auth.token, secret, {
      algorithms: ["HS256"],
      ignoreExpiration: true,
    }).sub;
    next();
  } catch (error) {
    next(error);
  }
});

io.on("connection", (socket) => {
  const { user } = socket.data;
  socket.join(user);
  socket.on("send", (to, body, acknowledge) => {
    io.to(to).emit("message", user, body);
    acknowledge();
  });
});

server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(`ws://127.0.0.1:${server.address().port}/socket.io/?EIO=4&transport=websocket`);
});

process.on("SIGTERM", () => process.exit(0));

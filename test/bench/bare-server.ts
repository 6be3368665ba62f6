// bare-server.ts PORT JSON: the least that node:http can do, for comparison.
import { createServer } from "node:http";

const [port, json] = process.argv.slice(2);

createServer((_request, response) => {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(JSON.parse(json!)));
}).listen(Number(port), "127.0.0.1", () => process.send?.("listening"));

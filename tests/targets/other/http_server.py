"""An HTTP server in a thread, with a client that keeps its connection."""

import http.client
import http.server
import threading

from target_api import checkpoint, run


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self):
        Handler.count += 1
        body = f"{self.path} {Handler.count}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = http.client.HTTPConnection(*server.server_address, timeout=60)
    asked = 0

    def ask(n):
        nonlocal asked
        client.request("GET", f"/{n}")
        asked += 1
        answer = client.getresponse().read()
        assert answer == f"/{n} {asked}".encode(), (answer, asked)

    ask(0)
    if checkpoint(ask):
        Handler.count += 1
    ask(-1)


run(main)

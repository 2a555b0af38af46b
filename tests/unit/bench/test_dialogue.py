"""The conversations that the bench has, and their way through Nginx."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.contenders import Server
from bench.dialogue import USERS, behind_nginx, conversations
from bench.processes import Pins, Process, send

from tests.nginx import needs_nginx
from tests.ports import free_port


def test_a_turn_holds_all_that_was_said_before_and_differs_from_the_others() -> None:
    bodies = [json.loads(body)["messages"] for body in conversations("x", USERS, 3)]
    assert len({json.dumps(messages) for messages in bodies}) == len(bodies) == 3 * USERS
    first, _, third = bodies[0], bodies[USERS], bodies[2 * USERS]
    assert third[: len(first)] == first
    assert [one["role"] for one in third] == ["user", "assistant", "user", "assistant", "user"]
    assert conversations("x")[0] != conversations("y")[0]


@needs_nginx
def test_the_client_asks_through_nginx_over_tls(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "server.py").write_text(
        "import http.server, sys\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self):\n"
        "        self.rfile.read(int(self.headers['content-length']))\n"
        "        self.send_response(200 if self.headers['x-forwarded-proto'] == 'https' else 400)\n"
        "        self.send_header('content-length', '2')\n"
        "        self.end_headers()\n"
        "        self.wfile.write(b'ok')\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\n"
    )
    pins = Pins.here()
    process = Process([sys.executable, str(tmp_path / "server.py"), str(port)], pins)
    try:
        direct = Server(process, port, "/v1/chat/completions")
        with behind_nginx(direct, pins) as fronted:
            folder = str(Path(fronted.certificate).parent)
            assert _running(folder)
            tally = send(fronted.job(["{}"], 1, each=1), pins)
        assert tally.answers == {0: "ok"}, tally.errors
    finally:
        process.close()
    assert not _running(folder)


def _running(folder: str) -> bool:
    shown = subprocess.run(["pgrep", "-f", f"nginx.*{folder}/"], capture_output=True, check=False)
    return shown.returncode == 0

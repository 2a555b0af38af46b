"""Our plugin for Kong, in LuaJIT as Kong has it; Kong's own functions are played here."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

from sixways.api.kong.objects import plugin_files

lua: Any = import_module("lupa.luajit21")  # it has no types

_NOW = 1_700_000_015
# What the handler calls: Kong's counters, its consumer, and the request that passes.
_KONG = """
counters = {}
local function key(conf, id, period, now) return id .. period .. math.floor(now / 60000) end
local one = {
  usage = function(conf, id, period, now)
    if broken then return nil, "no answer" end
    return counters[key(conf, id, period, now)] or 0
  end,
  increment = function(conf, limits, id, now, value)
    for period in pairs(limits) do
      local k = key(conf, id, period, now)
      counters[k] = (counters[k] or 0) + value
    end
    return true
  end,
}
package.preload["kong.plugins.rate-limiting.policies"] = function()
  return { ["local"] = one, redis = one }
end
package.preload["kong.db.schema.typedefs"] = function()
  return { host = { type = "string" }, sni = { type = "string" },
           port = function(it) return { type = "integer", default = it.default } end,
           protocols_http = {} }
end
errors = {}
kong = {
  ctx = { plugin = {} },
  client = { get_consumer = function() return consumer end },
  log = { err = function(...) errors[#errors + 1] = table.concat({ ... }) end },
  response = {
    exit = function(status, body, headers) answer = { status = status, headers = headers } end,
    get_header = function(name) return content_type end,
    get_status = function() return status end,
    set_header = function(name, value) sent[name] = value end,
  },
  service = { request = { clear_header = function(name) cleared = name end } },
}
ngx = { time = function() return now end, arg = {} }
"""


class Kong:
    """One worker of Kong with the plugin."""

    def __init__(self, minute: int = 100) -> None:
        self._lua = lua.LuaRuntime(unpack_returned_tuples=True)
        self._lua.execute(_KONG)
        self.globals = self._lua.globals()
        self.globals.now = _NOW
        self._plugin = self._lua.execute(plugin_files()["handler.lua"])
        self._conf = self._lua.table_from({"minute": minute, "policy": "local"})

    def call(
        self,
        chunks: list[bytes],
        kind: str = "application/json",
        status: int = 200,
        caller: str | None = "ann",
    ) -> dict[str, Any]:
        """One request whose answer comes in these chunks; what the caller sees."""
        known = self.globals
        known.kong.ctx.plugin = self._lua.table()
        known.sent = self._lua.table()
        known.answer, known.cleared = None, None
        known.consumer = self._lua.table_from({"id": caller}) if caller else None
        known.content_type, known.status = kind, status
        self._plugin.access(self._plugin, self._conf)
        if known.answer is None:
            self._plugin.header_filter(self._plugin, self._conf)
            for chunk in [*chunks, b""]:
                known.ngx.arg[1] = chunk
                self._plugin.body_filter(self._plugin, self._conf)
                assert known.ngx.arg[1] == chunk.decode(), "an answer passes as it came"
        self._plugin.log(self._plugin, self._conf)
        refused = known.answer
        return {
            "status": refused.status if refused else status,
            "headers": dict(refused.headers) if refused else dict(known.sent),
        }

    @property
    def used(self) -> dict[str, int]:
        return dict(self.globals.counters)


def _one(kong: Kong) -> int:
    (used,) = kong.used.values()
    return used


def _body(total: int) -> bytes:
    usage = {"prompt_tokens": 1, "completion_tokens": total - 1, "total_tokens": total}
    return json.dumps({"choices": [], "usage": usage}).encode()


def _event(content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def test_what_answers_used_is_counted_until_the_limit_then_calls_are_refused() -> None:
    kong = Kong(minute=100)
    assert kong.call([_body(60)])["headers"]["X-RateLimit-Remaining-Tokens-Minute"] == 100
    assert kong.globals.cleared == "Accept-Encoding"
    assert kong.call([_body(60)])["status"] == 200, "what is in flight is not cut short"
    assert _one(kong) == 120
    refused = kong.call([_body(60)])
    assert refused["status"] == 429
    assert refused["headers"]["Retry-After"] == 60 - _NOW % 60
    assert kong.call([_body(60)], caller="bob")["status"] == 200, "each caller has its own"
    kong.globals.now = _NOW + 60
    assert kong.call([_body(60)])["status"] == 200, "the next minute is another one"


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
def test_a_total_is_found_however_the_answer_is_cut(size: int) -> None:
    body = b'{"choices": [{"message": {"content": "' + b"word " * 60 + b'"}}], "usage": {'
    body += b'"completion_tokens": 70, "total_tokens": 1234}}'
    kong = Kong(minute=10_000)
    kong.call([body[at : at + size] for at in range(0, len(body), size)])
    assert _one(kong) == 1234


def test_an_answer_that_speaks_of_totals_is_not_taken_for_its_usage() -> None:
    kong = Kong()
    said = json.dumps({"content": '{"total_tokens": 9999, }', "usage": {"total_tokens": 7, "a": 1}})
    kong.call([said.encode()])
    assert _one(kong) == 7


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_stream_is_counted_by_its_usage_else_by_its_events(size: int) -> None:
    def stream(*contents: Any) -> list[bytes]:
        whole = b"".join(map(_event, contents)) + b"data: [DONE]\n\n"
        return [whole[at : at + size] for at in range(0, len(whole), size)]

    kong, kind = Kong(minute=10_000), "text/event-stream; charset=utf-8"
    pieces = [{"choices": [{"delta": {"content": "a"}}], "usage": None}] * 4
    kong.call(stream(*pieces, {"choices": [], "usage": {"total_tokens": 31}}), kind)
    assert _one(kong) == 31
    kong.call(stream(*pieces), kind)
    assert _one(kong) == 35


def test_errors_other_answers_and_open_routes_are_not_counted() -> None:
    kong = Kong()
    kong.call([_body(50)], status=400)
    kong.call([b'"total_tokens": 5,'], kind="text/plain")
    kong.call([b'{"outputs": []}'])
    kong.call([_body(50)], caller=None)
    assert kong.used == {}


def test_calls_pass_while_the_counters_do_not_answer() -> None:
    kong = Kong()
    kong.globals.broken = True
    assert kong.call([_body(5)])["status"] == 200
    assert "no answer" in kong.globals.errors[1]


def test_the_schema_has_the_fields_of_the_configuration() -> None:
    runtime = lua.LuaRuntime(unpack_returned_tuples=True)
    runtime.execute(_KONG)
    schema = runtime.execute(plugin_files()["schema.lua"])
    assert schema.name == "sixways-tokens"
    config = schema.fields[2].config
    names = {next(iter(field.keys())) for field in config.fields.values()}
    assert names == {"minute", "policy", "redis", "sync_rate"}

"""The parts of `ApiGateway`, one purpose a file.

`args.py` and `problems.py` are its inputs; `routes.py`, `schemas.py` and `document.py` make the
OpenAPI document of a REST API, as plain data; `rest.py` and `http.py` make the two kinds of API;
`keys.py`, `logs.py`, `waf.py`, `domain.py`, `link.py`, `policies.py` and `alarms.py` what stands
around them.
"""

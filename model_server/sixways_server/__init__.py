"""The model server: one program for every way.

`app.py` puts it together; `protocols/` translate, one file each; `engines/` compute, one file
each; nothing in `protocols/` knows an engine and nothing in `engines/` knows HTTP.
"""

from __future__ import annotations


def sixways_version() -> str:
    """The version of the installed distribution; `0` in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sixways")
    except PackageNotFoundError:
        return "0"

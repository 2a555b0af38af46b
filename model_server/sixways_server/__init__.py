"""The model server: one program for every way.

`app.py` puts it together; `protocols/` translate, one file each; `engines/` compute, one file
each; nothing in `protocols/` knows an engine and nothing in `engines/` knows HTTP.
"""

"""Makes variants: one file an engine, one family a kind of model.

`recipes(family)` lists what can be made without importing an engine; `open_family` opens a
model for a build.
"""

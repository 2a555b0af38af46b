"""Makes variants: `encoder.py` and `llm.py` are the two families of models, and what they can make.

A family describes its variants as recipes without importing an engine; `../build.py` asks it to
make, measure and time them. One file an engine does the quantizing.
"""

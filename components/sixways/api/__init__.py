"""Way `api`: a model as an API with keys, plans, limits and logs, in front of any other way."""

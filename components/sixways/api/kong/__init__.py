"""The parts of `KongGateway`.

`args.py` and `problems.py` say what it takes, `limits.py` and `configuration.py` write Kong's
declarative configuration, `objects.py` what Kubernetes runs it by. `plugin/` is Kong's: it counts
the tokens of answers, in Lua. `monitor/` is a chart of one object, for clusters that know it.
"""

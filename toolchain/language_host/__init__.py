"""A small Python language host for the Pulumi engine.

The engine starts `pulumi-language-python` to run Python programs, plugins and policy packs. The
official distribution brings its own, which `install_pulumi` prefers; a CLI built from its Go
module comes without one, and this is what stands in then. It runs things; it does not generate
SDKs or convert programs, and says so when it is asked to.
"""

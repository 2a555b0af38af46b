"""The bundle: a model with its quantized variants, measured, content-addressed and signed.

Importing this package loads no engine. `quantize/` builds bundles, `runtime/` computes with
one variant; both import their engine only when they are used.
"""

from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import FileEntry, Manifest, Quality, Source, Variant

__all__ = ["BundleError", "FileEntry", "Manifest", "Problem", "Quality", "Source", "Variant"]

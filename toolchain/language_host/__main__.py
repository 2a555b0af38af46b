"""`python toolchain/language_host ENGINE_ADDRESS`: serve the engine that started us."""

import sys
from pathlib import Path

# Run as a folder, so that no caller has to prepare PYTHONPATH, which every child would inherit.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from toolchain.language_host.host import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`PrivateServer` in parts: its inputs (`args.py`) and their checks (`problems.py`)."""

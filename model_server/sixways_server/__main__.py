"""`python -m sixways_server --config FILE`"""

from sixways_server.serve import main

raise SystemExit(main())

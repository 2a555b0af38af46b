"""How the CLI gets onto a machine, and how stack dev goes up and down."""

"""How the Pulumi CLI gets onto a machine, and how stack `dev` goes up and down.

Everything here runs before the project is installed, so it imports the standard library only
(`language_host`, which needs the Pulumi SDK, is started as its own program).
"""

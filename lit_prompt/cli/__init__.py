"""The command line: what its commands have in common."""

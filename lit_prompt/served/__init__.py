"""LMs that a server answers for: what it lists of a next-token distribution, and what that says of a KL."""

"""Commands beside those of the search; each is imported when it is called."""

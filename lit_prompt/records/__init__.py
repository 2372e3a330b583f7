"""File formats: a module each, which writes and reads it. None of them needs torch."""

"""Prompts that leave their run: as files of other programs, each read back before it is given out."""

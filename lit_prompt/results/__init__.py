"""Result records, tables and pictures."""

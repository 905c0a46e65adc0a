"""crosstune inside other frameworks: one short file for each, imported only when used."""

"""The desk: one burst becomes one answer, which is committed together with all that comes of it."""

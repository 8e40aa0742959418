"""Detectors: each a file here, which registers a function from a backbone's maps to a detector."""

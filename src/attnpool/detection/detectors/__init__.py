"""Detectors: each a file here, which registers a function from a backbone's maps to a detector."""

from attnpool.registry import import_all

import_all(__name__)

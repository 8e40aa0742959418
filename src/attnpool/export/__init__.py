"""Networks as files for other runtimes: the deploy form, what makes a file of it, and what runs that."""

from attnpool.export.prepare import ExportError, prepare, worst_difference

__all__ = ["ExportError", "prepare", "worst_difference"]

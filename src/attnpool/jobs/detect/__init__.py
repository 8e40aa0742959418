"""The verbs of `attnpool detect`, a typed function each."""

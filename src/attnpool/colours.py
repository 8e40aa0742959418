"""The colours of everything that is drawn, safe for the colour-blind."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, "Color Universal Design", 2008."""

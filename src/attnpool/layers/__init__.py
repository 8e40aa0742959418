"""Layers that keep a map's size: dynamic convolution and subspace attention."""

"""Readers and writers for the field's file formats, in pure Python and NumPy (no torch, no mxnet)."""

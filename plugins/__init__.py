"""One file = one registered thing. Importing a folder of this package registers what is in it."""

"""Scoring whatever holds faces: what ``igfiqa score`` does, step by step."""

"""What ``SyntheticFaces`` draws with: traits -> canvas -> photograph -> capture quality."""

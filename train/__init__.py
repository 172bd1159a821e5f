"""Training in PyTorch: recordings in, checkpoints out. Imports `engine` for contracts, never `export`."""

"""The training step as fast as the hardware allows."""

"""What networks predict: from a label to a loss, and back to a distribution."""

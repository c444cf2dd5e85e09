"""What makes a training step the same on any number of workers."""

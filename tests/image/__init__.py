"""The server's real image, built and run: as SageMaker starts it, and as everyone else does."""

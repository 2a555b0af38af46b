"""SageMaker: the endpoint, what it may reach, how it grows and shrinks, and how it goes to zero."""

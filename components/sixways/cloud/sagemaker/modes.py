"""How an endpoint of SageMaker is called; see `SageMakerEndpointArgs.mode`."""

REAL_TIME, ASYNC, SERVERLESS = "real-time", "async", "serverless"
TO_ZERO = "scale-to-zero"
MODES = (REAL_TIME, ASYNC, SERVERLESS, TO_ZERO)
STEPWISE = (REAL_TIME, ASYNC)
"""The modes whose updates SageMaker moves blue/green, and takes back."""

"""`SageMakerEndpoint`: bundles behind an endpoint of Amazon SageMaker.

`args.py` holds the inputs, `checks.py` and `check_variants.py` what AWS would refuse of them,
`endpoint.py` the component. Its parts: `network.py` (VPC), `role.py` and `policies.py` (rights),
`storage.py` (key, log), `variants.py` (models and the endpoint's configuration), `deployment.py`
(how updates move traffic); `scaling.py`, `schedules.py`, `release.py` (how it grows and shrinks).
"""

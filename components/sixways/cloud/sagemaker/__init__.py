"""`SageMakerEndpoint`: bundles behind an endpoint of Amazon SageMaker.

`args.py` holds the inputs, `checks.py` and `check_variants.py` what AWS would refuse of them,
`modes.py` how it is called, `endpoint.py` the component. Its parts: `network.py` (VPC), `role.py`
and `policies.py` (rights), `storage.py` (key, log), `variants.py` (models and the endpoint's
configuration), `hosting.py` (the endpoint), `deployment.py` (how updates move traffic),
`scaling.py`, `schedules.py` and `release.py` (how variants grow and shrink), `copies.py` and
`inference_components.py` (how all goes to zero).
"""

"""`SageMakerEndpoint`: bundles behind an endpoint of Amazon SageMaker.

`args.py` holds the inputs, `checks.py` what AWS would refuse of them, `endpoint.py` the component.
Its parts: `network.py` (VPC), `role.py` and `policies.py` (rights), `storage.py` (keys, log),
`variants.py` (models and the endpoint's configuration), `deployment.py` (how updates move traffic).
"""

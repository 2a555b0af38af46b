"""Parts of `EksCluster`, which is in `../eks_cluster.py`.

`args.py` holds the inputs, `checks.py`, `check_nodes.py` and `check_access.py` what AWS would
refuse of them. `policies.py` and `roles.py` are the rights, `keys.py` encryption and log,
`nodes.py` the node groups, `addons.py` what runs on them, `access.py` who may use the cluster and
what its pods may read, `upgrade.py` what a change of the version does.
"""

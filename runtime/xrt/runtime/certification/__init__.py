"""Certificates: made by running files on back ends, recorded in bundles and in this machine's cache.

`inputs` are the images that a variant is compared on, `certify` the one loop over back ends that makes certificates,
`cache` says which certificate covers a session, `transfer` and `update_thresholds` carry certificates over to new
decision rules, `report` draws what the gate measured. The figures and their limits are `xrt.runtime.gate`.
"""

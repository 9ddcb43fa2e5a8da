r"""Posterior of factor analysis: effective draws per second of Gibbs and NUTS, beside NumPyro's and Pyro's NUTS?

W (20, 3) with N(0, 1) entries, psi ~ IG(2, 1/2), 1,000 rows from the model. Effective draws are the smallest bulk
effective sample size (ArviZ) over all uniquenesses and all entries of W W', which no rotation changes, per second of
processor time. Each run has a process of its own with one thread; its clock holds compilation, adaptation and warm-up.
Peers: NumPyro's NUTS on the density with z integrated out, from the moments and with vectorised chains; the same with z
sampled; Pyro's NUTS with z sampled. Of the last, far too slow for a whole run, a short one is scaled up: after a brief
adaptation, its draws per second times the effective draws of a draw of NumPyro's NUTS, the same algorithm on the same
density well adapted; its own adaptation and compilation are left out, to its advantage.

That all sample the same law is seen by their means: |difference| in combined standard errors.

Run:     python -m benchmarks.posterior          (needs the extra `bench`; about ... minutes)
Claim:   see CLAIMS; `found` in results/benchmarks/posterior.json.
"""

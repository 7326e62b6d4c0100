"""reelwright: from raw footage to a trained video model.

The packages lie at the top of the repository; the links beside this file give them their one import name,
`reelwright.curation`, `reelwright.kernels` and so on, so that nothing bare comes into an environment.
"""

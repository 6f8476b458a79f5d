"""A package that can be proved: its manifest and signature, the time-stamp, and the verifier that needs none of us.

`verify_package` imports nothing of ours, so that device, receiver and a court run the same file.
"""

"""Fusion: blocks of samples in, one vehicle state every 100 ms out, and how the box sits in the car.

Two kernels in a row. `windows` measures: it walks samples, keeps what each sensor said, and gives for every 100 ms
centred means and least-squares slopes. `vehicle` understands: it chooses the speed, learns the mount, removes gravity,
road slope and bias, and writes state rows. Both keep all their state in arrays, so any split of the samples into
blocks gives the same rows bit for bit.
"""

"""What is kept of a collision: rings of the last minute, the record's files, and the folder in which a package grows.

`folder` is the seam for all who add files to a package or send one; it needs nothing else of this package.
"""

"""The native CPU library: the complete forward pass in C++, from character ids to vectors.

`source/` is compiled with the package if a C++ compiler is installed (hatch_build.py).
"""

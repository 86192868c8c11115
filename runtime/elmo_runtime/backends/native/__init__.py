"""Our own library on the CPU: the whole forward pass in C++, from character ids to vectors.

`source/` is compiled with the package where a C++ compiler is at hand (hatch_build.py).
"""

"""Several workers on one client port: one process supervises, the others serve.

``supervisor`` keeps them alive, ``child`` is what each runs, ``channel`` is the line between the two.
"""

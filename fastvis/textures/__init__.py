"""Textures as Gram matrices of random filters: models, synthesis, inpainting, metrics.

Source: Ustyuzhaninov, Brendel, Gatys, Bethge, "What does it take to generate natural textures?",
ICLR 2017. Equation numbers in this package are that paper's.
"""

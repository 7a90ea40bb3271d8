"""LLaDA2-style block-diffusion language model and its fine-tuning, with torch only.

The paper is arXiv 2512.15745; the names of the configuration follow inclusionAI/dFactory, so that a file written
for one is readable for the other.
"""

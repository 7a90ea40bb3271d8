"""Export: a launch plan as the job of Slurm, Kubernetes, SkyPilot or dstack; pure.

It may import model and text. Start in job.py: each format is written from its Job.
"""

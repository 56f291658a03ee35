"""The main job from a fresh clone: ``scripts/demo``, or ``python -m examples.demo``.

``corpus.yaml`` and ``job.yaml`` beside this file say what is searched; change them and run again.
"""

"""Tasks on latents: each file is one command, `python -m functa_jax.tasks.NAME --run RUN`.

`python -m functa_jax.tasks --run RUN` runs them all and writes one page.
"""

"""How to talk to model servers. Foreign errors become ours here and nowhere else."""

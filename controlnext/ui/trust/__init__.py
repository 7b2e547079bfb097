"""What the page and its API let in: uploaded files alone, values of the right shape, and one sentence for everything else."""

"""Run as a program: a tiny training whose configuration is the arguments; killed, resumed and split by tests."""

import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import torch  # noqa: E402 - the paths come first
from safetensors.torch import save_file  # noqa: E402
from training_parts import tiny_config, tiny_trainer, weights_of  # noqa: E402

if __name__ == "__main__":
    torch.set_num_threads(1)
    output, changes = sys.argv[1], json.loads(sys.argv[2])
    trainer = tiny_trainer(tiny_config(output, **changes))
    trainer.run()
    if trainer.first:
        save_file(weights_of(trainer), Path(output) / "weights.safetensors")

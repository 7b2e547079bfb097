"""Remake the starter: `python -m controlnext.starter STAGE`. Every stage resumes where it was stopped.

In order: render, autoencoder, encode, base, decoder, small-decoder, reader, colours, adapter (four times), style (once per style),
few-steps, pack, examples; dit, a transformer taught by the base; for the video starter then clips, image-encoder, video-frames, video,
video-vae, video-decoder and pack again.
"""

import argparse
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from controlnext.starter.world.conditions import CONDITIONS
from controlnext.starter.world.styles import STYLES

STAGES = (
    "render",
    "autoencoder",
    "encode",
    "base",
    "dit",
    "decoder",
    "small-decoder",
    "reader",
    "colours",
    "adapter",
    "style",
    "few-steps",
    "clips",
    "image-encoder",
    "video-frames",
    "video",
    "video-vae",
    "video-decoder",
    "pack",
    "examples",
)
COLOUR_SCENES = 1200  # a shirt's name then occurs about forty times under each sky
# Default minutes of each stage; the model card says how long the bundled weights were trained.
MINUTES = {
    "autoencoder": 15,
    "base": 60,
    "dit": 600,
    "decoder": 20,
    "small-decoder": 20,
    "reader": 20,
    "adapter": 30,
    "style": 4,
    "few-steps": 60,
    "image-encoder": 8,
    "video-frames": 40,
    "video": 60,
    "video-decoder": 20,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m controlnext.starter", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of data, checkpoints and results")
    parser.add_argument("--minutes", type=float, help="time budget")
    parser.add_argument("--processes", type=int, default=1, help="processes that train together, one core each")
    parser.add_argument(
        "--name", help=f"which adapter ({', '.join(CONDITIONS)}) or style ({', '.join(STYLES)}); pack: video alone"
    )
    parser.add_argument(
        "--start", type=Path,
        help="autoencoder, tail of the small decoder, base, adapter or image encoder folder to start from; "
        "few-steps: a LoRA",
    )  # fmt: skip
    parser.add_argument("--rate", type=float, default=8e-4, help="peak learning rate of the base")
    parser.add_argument("--shards", type=int, default=96, help="shards of 128 pictures to render")
    parser.add_argument("--close", type=float, default=0.0, help="share of heads and busts to render, 0 to 1")
    parser.add_argument("--part", default="0/1", help="render or encode only shards i, i+n, ... of the form i/n")
    return parser


def _spawn(processes: int) -> int:
    """Start one process of this command per rank, joined by gloo on the loopback address."""
    common = os.environ | {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    common |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "controlnext.starter", *sys.argv[1:]]
    children = [subprocess.Popen(command, env=common | {"RANK": str(i)}) for i in range(processes)]
    return max(child.wait() for child in children)


def _run(options: argparse.Namespace) -> None:
    from controlnext.starter.train.loop import Plan, start_processes

    start_processes()
    runs, stage = options.runs, options.stage
    data, base = runs / "data", runs / "base"
    plan = Plan(minutes=options.minutes or MINUTES.get(stage, 0), checkpoint=600)
    if stage in ("video-frames", "video"):  # short trainings: an average over the last hundred steps lags enough
        plan = replace(plan, ema=0.99)
    part, parts = (int(v) for v in options.part.split("/"))
    if stage == "render":
        from controlnext.starter.train.dataset import FIRST_TRAINING_SEED, STAGES_PER_SHARD, write_shard

        data.mkdir(parents=True, exist_ok=True)
        for index in range(part, options.shards, parts):
            first = FIRST_TRAINING_SEED + index * STAGES_PER_SHARD
            if not (data / f"shard-{index:05d}").exists():
                write_shard(data / f"shard-{index:05d}", range(first, first + STAGES_PER_SHARD), options.close)
    elif stage == "image-encoder":
        from controlnext.starter.train import encoder as train_encoder

        train_encoder.train(data, runs / "clips", runs / stage, plan, start=options.start)
    elif stage in ("video-frames", "video"):
        from controlnext.starter.train import video as train_video

        (train_video.train_video if stage == "video" else train_video.train_frames)(runs, plan)
    elif stage == "video-vae":
        from controlnext.starter.train import video_vae

        video_vae.make(runs / "autoencoder", runs / stage)
    elif stage == "video-decoder":
        from controlnext.starter.train import video_decoder as train_video_vae

        train_video_vae.train(data, runs / "autoencoder", runs / "video-vae", runs / stage, plan)
    elif stage == "clips":
        from diffusers import AutoencoderKL

        from controlnext.device import quick_dtype
        from controlnext.starter.train.clips import CLIPS_PER_SHARD, write_clips
        from controlnext.starter.train.dataset import FIRST_TRAINING_SEED

        vae = AutoencoderKL.from_pretrained(runs / "autoencoder", dtype=quick_dtype()).eval()
        (runs / "clips").mkdir(parents=True, exist_ok=True)
        for index in range(part, options.shards, parts):
            path, first = runs / "clips" / f"clips-{index:05d}", FIRST_TRAINING_SEED + index * CLIPS_PER_SHARD
            if not path.exists():
                write_clips(path, range(first, first + CLIPS_PER_SHARD), vae)
    elif stage in ("autoencoder", "decoder"):
        from controlnext.starter.train import vae as train_vae

        start = options.start or (runs / "autoencoder" if stage == "decoder" else None)
        rate = 2.5e-4 if start else 8e-4
        train_vae.train(data, runs / stage, plan, start=start, decoder_only=stage == "decoder", rate=rate)
    elif stage == "small-decoder":
        from controlnext.starter.train import small_decoder

        small_decoder.train(data, runs / "autoencoder", runs / stage, plan, start=options.start)
    elif stage == "encode":
        from diffusers import AutoencoderKL

        from controlnext.device import quick_dtype
        from controlnext.starter.train.dataset import encode_shard

        vae = AutoencoderKL.from_pretrained(runs / "autoencoder", dtype=quick_dtype()).eval()
        for shard in sorted(data.glob("shard-?????"))[part::parts]:
            encode_shard(shard, vae)
    elif stage == "base":
        from controlnext.starter.train import base as train_base

        train_base.train(data, runs / "autoencoder", base, plan, start=options.start, rate=options.rate)
    elif stage == "dit":
        from controlnext.assets import STARTER
        from controlnext.starter.train import dit as train_dit

        teacher = base / "pipeline" if (base / "pipeline").exists() else STARTER / "base"
        train_dit.train(data, teacher, runs / stage, replace(plan, ema=0.995, report=1200, clock="cpu"))
    elif stage == "reader":
        from controlnext.starter.train import reader as train_reader

        train_reader.train(data, runs / "reader", plan)
    elif stage == "adapter":
        from controlnext.starter.train import adapter as train_adapter

        train_adapter.train(
            data, base / "pipeline", runs / "adapters" / options.name, plan, name=options.name, start=options.start
        )
    elif stage == "style":
        from controlnext.starter.train import style as train_style

        train_style.train(data, base / "pipeline", runs / "loras", plan, name=options.name)
    elif stage == "few-steps":
        from controlnext.starter.train import few_steps

        few_steps.train(runs / stage, replace(plan, report=1200, checkpoint=300), start=options.start)
    elif stage == "colours":
        from annotators.starter.colours import ColourNames
        from controlnext.starter.train.dataset import Shards
        from controlnext.starter.world.colours import learn_colours

        shards = Shards(data, latents=False)
        ColourNames(*learn_colours(shards[index] for index in range(min(COLOUR_SCENES, len(shards))))).save()
    elif stage == "examples":
        from controlnext.starter.examples import write_examples

        write_examples()
    else:
        from controlnext.assets import STARTER
        from controlnext.starter.train.pack import pack, pack_video

        if options.name == "video":
            pack_video(runs, STARTER / "video")
        else:
            pack(runs)


def main() -> int:
    """Run one stage; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options = _parser().parse_args()
    known = {"adapter": CONDITIONS, "style": STYLES}.get(options.stage)
    if known and options.name not in known:
        _parser().error(f"--name must be one of {', '.join(known)}")
    if options.processes > 1 and "RANK" not in os.environ:
        return _spawn(options.processes)
    _run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line of ``embed``."""

from __future__ import annotations

import argparse

from dataset_prep.files.arguments import add_set
from recbole_mmm4rec.encoders.spec import DEFAULT_IMAGE_ENCODER, DEFAULT_TEXT_ENCODER, PRECISIONS

EPILOG = f"""encoders:
  FOLDER or HUB/NAME                       sentence-transformers (text)
  open_clip:ARCH/TAG, open_clip:ARCH@FILE,
  open_clip:FOLDER                         either tower of an open_clip model (text, image)
  timm:NAME, timm:NAME@FILE                a timm model (image)
  {DEFAULT_IMAGE_ENCODER:<40} packaged, without a model hub (image)

examples:
  %(prog)s ml-100k --text-encoder intfloat/e5-small-v2 --dtype float16
  %(prog)s shop --text-encoder {DEFAULT_TEXT_ENCODER} --image-encoder {DEFAULT_IMAGE_ENCODER}
  %(prog)s shop --image-encoder open_clip:ViT-B-16-SigLIP/webli --precision fp16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``embed`` is told."""
    parser.description = "Caches embeddings of a data set's item texts and pictures; only what is new is encoded."
    parser.epilog = EPILOG
    add_set(parser)
    parser.add_argument(
        "--text-encoder", metavar="MODEL", help=f"for texts (default without --image-encoder: {DEFAULT_TEXT_ENCODER})"
    )
    parser.add_argument(
        "--image-encoder",
        nargs="?",
        const=DEFAULT_IMAGE_ENCODER,
        metavar="MODEL",
        help=f"for pictures (without a MODEL: {DEFAULT_IMAGE_ENCODER})",
    )
    parser.add_argument("--column", help="text column of the .item file (default: text)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="texts or pictures at a time (default: 64; 8 pictures on a CPU)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the computation (default: fp32)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the stored numbers")
    parser.add_argument(
        "--max-seq-length", type=int, metavar="N", help="cut texts after N tokens (default: the model's)"
    )
    parser.add_argument("--no-normalize", action="store_true", help="keep the vectors' lengths")
    parser.add_argument("--force", action="store_true", help="encode everything again, whatever is cached")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="where to encode (default: local)")
    parser.add_argument("--ray-address", metavar="HOST:PORT", help="of the Ray cluster (default: auto)")
    parser.add_argument("--num-workers", type=int, metavar="N", help="Ray actors (default: one a GPU, else one a CPU)")
    parser.add_argument("--export-atomic", action="store_true", help="also write the vectors as RecBole atomic files")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    from dataset_prep.embed.embed import EmbedOptions, embed
    from dataset_prep.embed.export import export_atomic

    options = EmbedOptions(
        text_encoder=arguments.text_encoder,
        image_encoder=arguments.image_encoder,
        column=arguments.column,
        batch_size=arguments.batch_size,
        device=arguments.device,
        precision=arguments.precision,
        dtype=arguments.dtype,
        max_seq_length=arguments.max_seq_length,
        normalize=not arguments.no_normalize,
        force=arguments.force,
        engine=arguments.engine,
        ray_address=arguments.ray_address,
        num_workers=arguments.num_workers,
    )
    said = embed(arguments.name, arguments.out, options)
    if arguments.export_atomic:
        said += "\n" + export_atomic(arguments.name, arguments.out, [modality for modality, _ in options.wanted()])
    return said

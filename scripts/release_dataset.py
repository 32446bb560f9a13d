"""Makes a release: Parquet, JSON lines, card, metadata, config and manifest, after accounting for every row.

in:  filtered/train.parquet: item_id 9f…, source "…", target "…", score 1.2, …
out: release/data/train-00000-of-00001.parquet, release/json/train.jsonl,
     release/top_k/train-00000-of-00001.parquet (or release/samples/…), release/README.md, release/assets/scores.png,
     release/croissant.json, release/resolved_config.yaml, release/manifest.json; and stats.json
"""

from __future__ import annotations

import json
from pathlib import Path

from corpusmith.card import read_about, read_licence
from corpusmith.program import argument_parser, log, run
from corpusmith.release import Build, write_release


def main() -> None:
    """Parses the flags and writes the release."""
    parser = argument_parser(__doc__)
    parser.add_argument("--dataset", required=True, help="name of the dataset")
    parser.add_argument("--folder", required=True, type=Path, help="folder of the dataset's results")
    parser.add_argument("--config", required=True, type=json.loads, help="what determines the release, as JSON")
    shards = "NAME, or FOLDER=SHARDS where there is one for each shard, below the folder and without ending"
    parser.add_argument("--stages", required=True, nargs="+", help=f"accounts of all stages in order: {shards}")
    parser.add_argument("--tables", required=True, nargs="+", help=f"tables that the manifest lists: {shards}")
    parser.add_argument("--dropped", required=True, nargs="+", help=f"tables of dropped and rejected rows: {shards}")
    parser.add_argument("--pool", required=True, type=Path, help="table of the items that everything is counted from")
    parser.add_argument("--side-stages", nargs="*", default=[], help=f"accounts beside the way of the items: {shards}")
    parser.add_argument("--samples", nargs="*", default=[], help=f"tables of further answers to the items: {shards}")
    parser.add_argument("--card", required=True, type=Path, help="template of the card")
    parser.add_argument("--splits", required=True, nargs="+", help="names of the splits; their tables lie in filtered/")
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME=RECEIPT", help="models and scorers behind it")
    parser.add_argument("--environments", required=True, nargs="+", type=Path, help="environment files behind it")
    parser.add_argument(
        "--licence",
        metavar="JSON",
        help='the licence: {"licence": ID, "name", "link", "parts": [{"role", "name", "licence", "from", "note"}],'
        ' "conflicts": [TEXT], "override": REASON}; by default the one of the config',
    )
    parser.add_argument(
        "--about", type=Path, nargs="?", metavar="FILE", help="the user's own text for the card, in Markdown"
    )
    parser.add_argument("--repo", metavar="OWNER/NAME", help="where the release will be published")
    parser.add_argument("--revision", metavar="BRANCH", help="the branch there, where it is not main")
    parser.add_argument("--manifest", required=True, type=Path, help="release/manifest.json; the release is its folder")
    parser.add_argument("--stats", required=True, type=Path, help="stats.json to write")
    flags = parser.parse_args()
    build = Build(
        name=flags.dataset,
        folder=flags.folder,
        stages=flags.stages,
        tables=flags.tables,
        dropped=flags.dropped,
        pool=flags.pool,
        card=flags.card,
        side_stages=flags.side_stages,
        samples=flags.samples,
        splits={split: flags.folder / "filtered" / f"{split}.parquet" for split in flags.splits},
        config=flags.config,
        models={name: Path(path) for name, _, path in (pair.partition("=") for pair in flags.models)},
        environments=flags.environments,
        licence={} if flags.licence is None else read_licence(flags.licence),
        about="" if flags.about is None else read_about(flags.about),
        repo=flags.repo,
        revision=flags.revision,
    )
    log.info("released %s rows", f"{write_release(build, flags.manifest.parent, flags.stats):,}")


if __name__ == "__main__":
    run(main)

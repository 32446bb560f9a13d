"""Drops rows whose text says nearly what that of another row says: neighbours by embedding, of any recipe.

    python scripts/drop_neighbours.py --rows rows.parquet --recipe instructions --column instruction \\
        --model receipt.json --similarity 0.975 --keep reward highest \\
        --kept kept.parquet --rejected rejected.parquet --account account.json

Input, rows of the recipe (some columns):

    item_id   instruction                           reward
    3f2a...   Could you explain how tides work?     1.25
    77b0...   Explain to me how tides work.         2.5

Output: the second goes to --kept, unchanged. The first goes to --rejected, with

    item_id   reason           detail
    3f2a...   near_neighbour   similarity 0.981 with 77b0...

The model is any encoder or decoder of transformers; an embedding is the mean over a text's tokens (see
corpusmith/embedding.py). Rows are visited best first by --keep, and one goes when a row that stays is at least
--similarity near it by the cosine (corpusmith/neighbours.py). A row without a value is the last choice; a row without a
text is nobody's neighbour. Embeddings lie in a temporary file beside --kept: 4 bytes for each of the model's width.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpusmith.accounting import Account
from corpusmith.devices import check_devices
from corpusmith.files import naming
from corpusmith.gpu_claims import claimed_gpus
from corpusmith.keeping import check_keep, ids_of, order_by_keep
from corpusmith.models import folder_of, read_receipt
from corpusmith.node_caches import use_local_caches
from corpusmith.program import Progress, argument_parser, log, run, track
from corpusmith.row_steps import RowSplit, text_column
from corpusmith.table_files import read_batches, read_rows, row_count
from corpusmith.tables import ROWS, Table

# Texts that are put into batches by their length together.
_WINDOW = 4096


def _arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", required=True, help="table of the recipe's rows")
    parser.add_argument("--recipe", choices=sorted(ROWS), required=True, help="whose rows they are")
    parser.add_argument("--column", required=True, help="the text that neighbours are known by, such as instruction")
    parser.add_argument("--model", required=True, help="receipt of the model that embeds texts")
    parser.add_argument(
        "--similarity",
        type=float,
        default=0.975,
        help="least cosine of neighbours, to 1; Magpie's squared distance of 0.05 is 0.975 (default: 0.975)",
    )
    parser.add_argument(
        "--keep",
        nargs=2,
        metavar=("COLUMN", "lowest|highest"),
        help="of neighbours the row that stays, by a column of numbers (default: the first)",
    )
    parser.add_argument("--prefix", help='text before each, such as "query: " for the E5 models (default: none)')
    parser.add_argument(
        "--max-length", type=int, default=512, help="most tokens of a text, the rest is cut off (default: 512)"
    )
    parser.add_argument(
        "--exact-up-to",
        type=int,
        default=100_000,
        help="most rows that are all held against one another; of more, a few neighbours are missed (default: 100000)",
    )
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"), help="where it runs (default: cuda)")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="what the model computes in (default: float32)",
    )
    parser.add_argument("--tokens-per-batch", type=int, default=16_384, help="most tokens in a batch (default: 16384)")
    parser.add_argument("--trust-remote-code", action="store_true", help="let code that comes with the model run")
    parser.add_argument("--stage", default="neighbours", help="name of the stage (default: %(default)s)")
    parser.add_argument("--kept", required=True, help="table to write: the rows that stay, in their order")
    parser.add_argument("--rejected", required=True, help="table to write: the other rows, with reasons")
    parser.add_argument("--account", required=True, help="account to write, in JSON")
    return parser.parse_args()


def _embed(arguments: argparse.Namespace, table: Table, column: str, rows: int, file: Any) -> NDArray[np.float32]:
    """The embeddings of all rows, in a file; zeros where a row has no text."""
    from corpusmith.embedding import EmbeddingModel  # seconds that a program without work for a model need not spend

    folder = folder_of(read_receipt(arguments.model))
    names = ("device", "dtype", "tokens_per_batch", "max_length", "trust_remote_code")
    log.info("loading %s", folder)
    model = EmbeddingModel(folder, prefix=arguments.prefix or "", **{name: getattr(arguments, name) for name in names})
    with naming(arguments.kept):
        # Written now, a full disk is an error of ours and not a bus error later.
        for first in range(0, rows, _WINDOW):
            file.write(bytes(4 * model.width * min(_WINDOW, rows - first)))
        file.flush()
    vectors = np.memmap(file, np.float32, "r+", shape=(rows, model.width))
    start = truncated = 0
    with Progress("embed", rows) as progress:
        for batch in read_batches(arguments.rows, table, [column], batch_size=_WINDOW):
            texts = batch.column(0).to_pylist()
            present = [place for place, text in enumerate(texts) if text is not None and text.strip()]
            found = model.embed([texts[place] for place in present])
            vectors[[start + place for place in present]] = found.vectors
            truncated += found.truncated
            start += len(texts)
            progress.advance(len(texts))
    if truncated:
        log.warning(
            "%s of %s texts are longer than %s tokens or the model's limit: only their beginnings are compared",
            f"{truncated:,}",
            f"{rows:,}",
            f"{arguments.max_length:,}",
        )
    return vectors


def _free_gpu() -> None:
    """Gives back what torch holds of the GPU: the next job's claim on it comes before this one's end."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _neighbours(arguments: argparse.Namespace, table: Table, column: str) -> dict[int, tuple[int, float]]:
    """The rows that go, each with the row that stays, and their similarity."""
    total = row_count(arguments.rows)
    if total == 0:
        return {}
    use_local_caches()
    folder = Path(arguments.kept).parent
    folder.mkdir(parents=True, exist_ok=True)
    visits = order_by_keep(arguments.rows, table, arguments.keep, total)
    with tempfile.TemporaryFile(dir=folder) as file:
        with claimed_gpus(1 if arguments.device == "cuda" else 0):
            check_devices(arguments.device, 1)
            vectors = _embed(arguments, table, column, total, file)
            _free_gpu()
        from corpusmith.neighbours import find_neighbours

        with Progress("compare", total) as progress:
            return find_neighbours(
                vectors, visits, arguments.similarity, arguments.exact_up_to, advance=progress.advance
            )


def main() -> None:
    """Drops the neighbours."""
    arguments = _arguments()
    table = ROWS[arguments.recipe].kept
    column = text_column(table, arguments.column, "--column")
    check_keep(table, arguments.keep)
    # Reading one row finds a missing or broken table before any work is done.
    next(read_rows(arguments.rows, table, batch_size=1), None)
    total = row_count(arguments.rows)
    gone = _neighbours(arguments, table, column)
    named = np.zeros(total, bool)
    named[[kept for kept, _ in gone.values()]] = True
    ids = ids_of(arguments.rows, table, named)
    account = Account(arguments.stage)
    with RowSplit(arguments.kept, arguments.rejected, ROWS[arguments.recipe], account) as split:
        for number, row in enumerate(track(read_rows(arguments.rows, table), "write", total)):
            found = gone.get(number)
            objection = None
            if found is not None:
                objection = "near_neighbour", f"similarity {found[1]:.3f} with {ids[found[0]]}"
            split.decide(row, objection)
    account.write(arguments.account)
    log.info("%s", split.summary(arguments.stage))


if __name__ == "__main__":
    run(main)

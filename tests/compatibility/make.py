"""Make the files of `written/`: what the version before wrote, which this one must go on using.

They were made once, by commit 3481499, with that commit's own environment:

    python tests/compatibility/make.py tests/compatibility/written

`checkpoint` is a finished run of `xrt train`, `unfinished` one that was stopped, `compact.xrt` the bundle of the first,
`results` an output folder of `xrt triage` that was stopped after its first batch. All are of phantoms that
`xrt phantoms` draws again at any time. The folder that was screened is written as `/data/incoming`.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

PHANTOMS = {"layout": "nih", "count": 40, "seed": 31, "size": 64}
SETTINGS = (
    "data={groups: {normal: [No Finding], abnormal: ['*']}, per_class: all}",
    "preprocessing={height: 32, width: 32}",
    "model.compact={widths: [8, 16], blocks: [0, 0], halvings: 1}",
    "training={epochs: 2, batch_size: 4, threads: 1, checkpoint_steps: 1}",
)
ROOT = "/data/incoming"


def main(out: Path) -> None:
    """Write everything into the empty folder `out`."""
    from xrt.export.pipeline import export_source
    from xrt.train.recipes.loading import load_recipe
    from xrt.train.running import run_folder
    from xrt.train.running.fit import fit

    from xrt.export.sources import open_source
    from xrt.runtime.errors import ModelError
    from xrt.runtime.phantoms import write
    from xrt.runtime.screening.options import TriageOptions
    from xrt.runtime.screening.triage import triage

    recipe = load_recipe("phantoms", SETTINGS)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "phantoms")
        write(data, workers=0, **PHANTOMS)
        fit(recipe, data, out / "checkpoint")
        save = run_folder.SaveProgress.on_train_batch_end

        def stop_at_the_second(self, *arguments):
            save(self, *arguments)
            if self.folder.path.joinpath(run_folder.RESUME).exists() and arguments[4] == 1:
                raise KeyboardInterrupt

        run_folder.SaveProgress.on_train_batch_end = stop_at_the_second
        try:
            fit(recipe, data, out / "unfinished")
        except ModelError as error:
            print(error)
        bundle = export_source(open_source(str(out / "checkpoint")), out / "compact.xrt")

        def stop(done, total):
            raise KeyboardInterrupt

        try:
            triage(bundle, [data / "images"], out / "results", TriageOptions(workers=0, batch_size=16), progress=stop)
        except KeyboardInterrupt:
            print("screening was stopped")
        with sqlite3.connect(out / "results" / "results.db") as db:
            at = str((data / "images").resolve())
            db.execute("UPDATE image SET root = replace(root, ?, ?)", (at, ROOT))
            db.execute("UPDATE study SET key = replace(key, ?, ?)", (at, ROOT))
        for drawn in ("heatmaps", "report.html", "worklist.csv", ".lock"):
            target = out / "results" / drawn
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    (out / "checkpoint" / "curves.png").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

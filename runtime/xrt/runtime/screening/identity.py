"""Which row a file belongs to: folders that were renamed, folders inside folders, files that are no longer there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from xrt.runtime.screening.listing import FoundFile, opened_as
from xrt.runtime.screening.store import Identity, ResultsStore


class Identities:
    """The rows that were there when a run began."""

    def __init__(self, store: ResultsStore) -> None:
        self._store = store
        self._roots = store.roots()
        self._related: dict[str, list[str]] = {}

    def row_of(self, root: str, path: str) -> Identity:
        """The row of a file: the one that an earlier run recorded under a folder around this root, or inside it."""
        related = self._related.get(root)
        if related is None:
            self._related[root] = related = [
                other for other in self._roots if other != root and (_inside(other, root) or _inside(root, other))
            ]
        whole = _whole(root, path)
        for other in related:
            if _inside(whole, other) and self._store.has_row(other, rest := whole[len(other.rstrip("/")) + 1 :]):
                return other, rest
        return root, path

    def recognise(self, files: Sequence[FoundFile]) -> None:
        """Where a folder was renamed or mounted elsewhere, its rows become those of the files that are there now."""
        known = self._store.identities()
        for before in sorted({root for root, _ in known} - {file.root for file in files}):
            if Path(before).exists():
                continue
            paths = {path for root, path in known if root == before}
            for after in sorted({file.root for file in files}):
                there = {file.path for file in files if file.root == after}
                unknown = not any(root == after for root, _ in known)
                if unknown and len(paths & there) * 2 > len(paths):
                    self._store.rename_root(before, after)
                    break
        self._roots = self._store.roots()
        self._related.clear()

    def moved(self, run: int, roots: Collection[str], *, redacted: bool) -> list[Identity]:
        """Rows under folders other than a run's own whose content it has found there, and whose file is gone.

        Where paths are pseudonyms nobody knows whether it is: the content is found once, which is what counts.
        """
        return [
            identity
            for identity in self._store.doubles(run)
            if not any(_inside(_whole(*identity), root) for root in roots)
            and (redacted or not (opened_as(identity[0]) / opened_as(identity[1])).exists())
        ]

    def missing(self, files: Sequence[FoundFile]) -> list[Identity]:
        """Rows under the folders of this run whose file is not there any more."""
        # Hashes take a fifth of the room. Two alike would leave a file that is gone on the worklist, not more.
        present = {hash(_whole(file.root, file.path)) for file in files}
        roots = set[str]()
        for file in files:
            if file.root not in roots and file.file.exists():
                roots.add(file.root)
        return [
            identity
            for identity, _ in self._store.each_identity()
            if hash(whole := _whole(*identity)) not in present and any(_inside(whole, root) for root in roots)
        ]


def _whole(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}"


def _inside(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")

"""What `xrt export` prints when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xrt.runtime.bundle.manifest import Manifest


def print_summary(manifest: Manifest) -> None:
    """Print the heatmaps, the certificate of every variant, and the back ends that each may run on."""
    from xrt.runtime.gate.limits import AT_LEAST

    for cam in manifest.graph.cams:
        print(f"{cam.output}: {cam.method} at {cam.layer}, {cam.channels} channels, {cam.height} x {cam.width}")
    for certificate in manifest.certificates:
        evidence = certificate.evidence
        file = next(v.file for v in manifest.variants if v.sha256 == certificate.file_sha256)
        print(
            f"{file} on {certificate.backend} {certificate.backend_version}: "
            f"{certificate.verdict} on {evidence.images} images ({evidence.source})"
        )
        for name, (area, low, high) in evidence.auroc.items():
            print(f"  the model's own AUROC of {name}: {area:.3f} [{low:.3f}, {high:.3f}]")
        for reason in certificate.reasons:
            print(f"  refused: {reason}")
        for name, limit in certificate.limits.items():
            if (value := certificate.figures.get(name)) is not None:
                bound = "at least" if name in AT_LEAST else "at most"
                print(f"  {name:24} {value:10.4g}   {bound} {limit:g}")
        for worst in certificate.worst:
            print(f"  worst case by {worst.figure}: {worst.value:.3g}, {worst.image}, {worst.class_name}")
    for variant in manifest.variants:
        certificates = [c for c in manifest.certificates if c.file_sha256 == variant.sha256]
        passed = [c.backend for c in certificates if c.passed]
        forced = [f"{c.backend} (by force)" for c in certificates if c.forced]
        refused = [c.backend for c in certificates if not c.usable]
        never = f", never on {', '.join(refused)}" if refused else ""
        print(f"{variant.file} may run on {', '.join(passed + forced)}{never}")

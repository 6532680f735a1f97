"""A software bill of materials in CycloneDX 1.6: every package of the locks, with its checksums and its licence.

    python workflow/envs/sbom.py [FILE]        default: build/sbom.cdx.json

Equal locks and packages give equal bytes: there is no date in it and no serial number. A licence is as the installed
package says it, and left out where the package is not installed here.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from licences import NOT_GIVEN, licence

from mmcontrast import __version__

ROOT = Path(__file__).parents[2]
LOCKS = ("base", "all", "slurm", "cuda", "uv")
UNKNOWN = (NOT_GIVEN, "not installed here")


def locked(lock: str) -> dict[tuple[str, str], list[str]]:
    """(name, version) -> the sha256 of each of its files, as they stand in a lock."""
    text = (ROOT / f"locks/{lock}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    heads = {block: re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", block) for block in blocks}
    return {
        (head[1], head[2]): sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
        for block, head in heads.items()
        if head
    }


def bill() -> dict[str, Any]:
    """The bill as plain objects."""
    packages: dict[tuple[str, str], list[str]] = {}
    held: dict[tuple[str, str], list[str]] = {}
    for lock in LOCKS:
        for package, sums in locked(lock).items():
            packages.setdefault(package, sums)
            held.setdefault(package, []).append(lock)
    components = []
    for (name, version), sums in sorted(packages.items()):
        url = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
        component = {
            "type": "library",
            "bom-ref": url,
            "name": name,
            "version": version,
            "purl": url,
            "hashes": [{"alg": "SHA-256", "content": content} for content in sums],
            "properties": [{"name": "mmcontrast:locks", "value": ", ".join(held[name, version])}],
        }
        if (said := licence(name)) not in UNKNOWN:
            component["licenses"] = [{"license": {"name": said}}]
        components.append(component)
    project = {
        "type": "application",
        "bom-ref": "mmcontrast",
        "name": "mmcontrast",
        "version": __version__,
        "licenses": [{"license": {"id": "MIT"}}],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": project},
        "components": components,
        "dependencies": [{"ref": "mmcontrast", "dependsOn": [c["bom-ref"] for c in components]}],
    }


def main() -> int:
    """Write the file, and say where it is."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/sbom.cdx.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    found = bill()
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{file}: {len(found['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())

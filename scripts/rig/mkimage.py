#!/usr/bin/env python3
"""Packs directories as container images: mkimage.py OUT.tar < SPEC.json

SPEC is a list of {"name": ..., "layers": [DIRECTORY, ...], "config": {...}}. The result is one docker-archive, which
`ctr images import` takes; a directory that several images name is stored once. The same input gives the same bytes.
"""
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pack_layer(directory, into):
    """GNU tar, because it keeps file capabilities, which Python's tarfile does not read."""
    path = f"{into}/{hashlib.sha256(directory.encode()).hexdigest()}.tar"
    subprocess.check_call([
        "tar", "--sort=name", "--mtime=@0", "--numeric-owner", "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--xattrs", "--xattrs-include=security.capability", "-C", directory, "-cf", path, ".",
    ])
    with open(path, "rb") as file:
        return path, hashlib.file_digest(file, "sha256").hexdigest()


def add_bytes(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def main():
    spec = json.load(sys.stdin)
    manifest = []
    with tempfile.TemporaryDirectory() as work, tarfile.open(sys.argv[1], "w") as archive:
        layers = {}
        for image in spec:
            for directory in image["layers"]:
                if directory in layers:
                    continue
                path, digest = pack_layer(directory, work)
                layers[directory] = digest
                archive.add(path, arcname=f"{digest}.tar")
            config = dict(image["config"])
            config["Env"] = [PATH] + config.get("Env", [])
            digests = [layers[directory] for directory in image["layers"]]
            data = json.dumps({
                "architecture": "amd64",
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
                "history": [{"created_by": "buildfleet rig"} for _ in digests],
            }, sort_keys=True).encode()
            name = hashlib.sha256(data).hexdigest() + ".json"
            add_bytes(archive, name, data)
            manifest.append({
                "Config": name,
                "RepoTags": [image["name"]],
                "Layers": [f"{digest}.tar" for digest in digests],
            })
        add_bytes(archive, "manifest.json", json.dumps(manifest).encode())


if __name__ == "__main__":
    main()

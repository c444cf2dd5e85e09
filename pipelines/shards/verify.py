"""Checking finished shards byte by byte: every member, header and padding, every sidecar, the manifest."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from cocktail.storage import delete_file, join, list_names, open_reader, read_bytes
from cocktail.text.printable import on_one_line
from cocktail.types import UsageError
from pipelines.progress import ClipProgress
from pipelines.shards.dataset import shards_metadata
from pipelines.shards.manifest import (
    CLIPS_NAME,
    MANIFEST_NAME,
    QUARANTINE_NAME,
    SIDECAR_SUFFIX,
    committed_tars,
    has_own_manifest,
    open_manifest,
    read_quarantine,
)
from pipelines.shards.on_cluster import LESS_AT_ONCE, Note, map_on_cluster, note_of
from pipelines.shards.plan import SHARD_SCHEMA, shard_family
from pipelines.shards.sidecars import iterate_sidecars, read_sidecar
from pipelines.shards.signed_json import claims
from pipelines.shards.tars import archive_end, member_header

_READ_BYTES = 8 << 20


class Damage(NamedTuple):
    """A part of a data set that is not what was written."""

    file: str
    member: str
    """Member of a tar whose header, bytes or padding it is, or "end of archive". Else empty."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}{self.member and f': {self.member}'}: {self.what}"


def verify_shard(row: Mapping[str, str], folder: str, run: str = "", advice: str = LESS_AT_ONCE) -> dict[str, Any]:
    """Check the shard named by `row["shard"]` against its sidecar. `run` names the run whose task this is, and that
    ends, with advice, if its tasks are killed again and again while they check one clip.

    Returns `shard`, `members` (how many were checked), `bytes` (read) and `damage` (a list of Damage as tuples).
    """
    shard = row["shard"]
    try:
        sidecar = read_sidecar(join(folder, shard + SIDECAR_SUFFIX))
    except FileNotFoundError:
        damage = [Damage(f"{shard}.tar", "", "there is no sidecar beside it, so it was never finished")]
        return {"shard": shard, "members": 0, "bytes": 0, "damage": [tuple(part) for part in damage]}
    except UsageError as error:
        damage = [Damage(shard + SIDECAR_SUFFIX, "", str(error).rpartition(SIDECAR_SUFFIX)[2].strip())]
        return {"shard": shard, "members": 0, "bytes": 0, "damage": [tuple(part) for part in damage]}
    samples = [(sample["clip_id"], sample["members"]) for sample in sidecar["samples"]]
    try:
        with note_of(folder, shard, run, advice) as note, open_reader(join(folder, f"{shard}.tar")) as file:
            damage = [Damage(f"{shard}.tar", *difference) for difference in _check_tar(file, samples, note)]
            read = file.tell()
    except FileNotFoundError:
        damage, read = [Damage(f"{shard}.tar", "", "it is not there")], 0
    return {
        "shard": shard,
        "members": sum(len(members) for _, members in samples),
        "bytes": read,
        "damage": [tuple(part) for part in damage],
    }


def _check_tar(
    file: pa.NativeFile, samples: list[tuple[str, list[tuple[str, int, str]]]], note: Note
) -> Iterator[tuple[str, str]]:
    """Differences, as (member, what), of the members of each clip, reading the tar once from its start to its end."""
    num_bytes = 0
    for clip_id, members in samples:
        note.begin(clip_id)
        for name, size, sha256 in members:
            if what := _difference(file, name, size, sha256):
                yield name, what
            num_bytes += len(member_header(name, size)) + size + -size % tarfile.BLOCKSIZE
    end = archive_end(num_bytes)
    rest = file.read()
    if rest != end:
        yield "end of archive", f"{len(rest)} bytes that are not the {len(end)} zeros that belong there"


def _difference(file: pa.NativeFile, name: str, size: int, sha256: str) -> str:
    """What is wrong with the member that a tar is at, read to its end some at a time; "" if nothing is."""
    expected, digest, read = member_header(name, size), hashlib.sha256(), 0
    header = file.read(len(expected))
    while data := file.read(min(size - read, _READ_BYTES)):
        digest.update(data)
        read += len(data)
    padding = file.read(-size % tarfile.BLOCKSIZE)
    if len(header) < len(expected) or read < size or len(padding) < -size % tarfile.BLOCKSIZE:
        return f"the file ends in or before it: {read} of its {size} bytes are there"
    if header != expected:
        return "its header differs"
    if digest.hexdigest() != sha256:
        return f"its {size} bytes have another hash"
    return "the padding behind it is not zero" if any(padding) else ""


def find_shards(folder: str) -> list[str]:
    """Names of a data set's shards of which the tar or the sidecar is there. Whatever else lies there is not ours.

    A shard is one that manifest.json names, one whose sidecar is of this version, also if it is damaged, or one that
    is numbered as those are (`train-...-of-00392`). Raises UsageError if there is neither such a manifest.json nor
    such a sidecar.
    """
    names = list_names(folder)
    stems = {name.removesuffix(end) for end in (".tar", SIDECAR_SUFFIX) for name in names if name.endswith(end)}
    known = {name.removesuffix(".tar") for name in committed_tars(folder)}
    families = {shard_family(shard) for shard in known}
    for stem in sorted(stems - known):
        sidecar = stem + SIDECAR_SUFFIX
        is_numbered = shard_family(stem) is not None and shard_family(stem) in families
        if is_numbered or (sidecar in names and claims(read_bytes(join(folder, sidecar)), SHARD_SCHEMA)):
            known.add(stem)
            families.add(shard_family(stem))
    if not known and not has_own_manifest(folder):
        raise UsageError(f"no shards at {folder}: neither a {MANIFEST_NAME} nor a *{SIDECAR_SUFFIX} of this version")
    return sorted(known & stems)


def verify_dataset(folder: str, num_tasks: int | None = None) -> Iterator[dict[str, Any]]:
    """Check all shards of a data set on the cluster, then what ties them together.

    Yields what `verify_shard` returns as shards are done, last of all the same of the manifest as a whole, whose
    `shard` is "". Raises UsageError as `find_shards` does.
    """
    shards = find_shards(folder)
    damaged = False
    rows = pa.table({"shard": shards})
    for result in map_on_cluster(rows, verify_shard, {"folder": folder}, num_tasks, folder=folder):
        damaged |= bool(result["damage"])
        yield result
    readable = not damaged or all(_is_readable(folder, shard) for shard in shards)
    damage = list(_check_tables(folder, shards)) if readable else []
    yield {"shard": "", "members": 0, "bytes": 0, "damage": [tuple(part) for part in damage]}


def delete_damaged(folder: str, damage: list[Damage]) -> list[str]:
    """Delete the shards and tables in which something is damaged, so that sharding again writes them anew.

    Returns the names of the files. The manifest goes with its shards: it commits them. Nothing goes that is not of
    the data set.
    """
    doomed = {MANIFEST_NAME, CLIPS_NAME, QUARANTINE_NAME} if damage and has_own_manifest(folder) else set()
    damaged = {item.file.removesuffix(".tar").removesuffix(SIDECAR_SUFFIX) for item in damage}
    for shard in damaged.intersection(find_shards(folder)):
        doomed |= {shard + SIDECAR_SUFFIX, f"{shard}.tar"}
    # Sidecars first: without one, a tar is not committed, should this be interrupted.
    ordered = sorted(doomed & set(list_names(folder)), key=lambda name: (not name.endswith(SIDECAR_SUFFIX), name))
    for name in ordered:
        delete_file(join(folder, name))
    return ordered


def _is_readable(folder: str, shard: str) -> bool:
    try:
        read_sidecar(join(folder, shard + SIDECAR_SUFFIX))
    except (FileNotFoundError, UsageError):
        return False
    return True


def _check_tables(folder: str, shards: list[str]) -> Iterator[Damage]:
    """Differences of the manifest and the quarantine from the sidecars. All sidecars are sound."""
    try:
        manifest = open_manifest(folder)
    except UsageError as error:
        yield Damage(MANIFEST_NAME, "", str(error))
        return
    gone = sorted(set(manifest.table["shard"].to_pylist()) - {f"{shard}.tar" for shard in shards})
    yield from (Damage(shard, "", "neither it nor its sidecar is there") for shard in gone)
    if not gone:
        described = shards_metadata(iterate_sidecars(folder, [shard + SIDECAR_SUFFIX for shard in shards]))
        differing = [name for name in described if manifest.metadata.get(name) != described[name]]
        if differing:
            yield Damage(MANIFEST_NAME, "", f"its {', '.join(differing)} is not what the sidecars say")
    try:
        read_quarantine(manifest)
    except UsageError as error:
        yield Damage(QUARANTINE_NAME, "", str(error))


def verify_and_report(folder: str, num_tasks: int | None, delete: bool) -> bool:
    """Check a data set, printing progress and every damaged part; return whether all of it is sound."""
    damage: list[Damage] = []
    num_members = num_bytes = 0
    with ClipProgress(len(find_shards(folder)), "verified", "shards") as progress:
        for result in verify_dataset(folder, num_tasks):
            damage += [Damage(*item) for item in result["damage"]]
            num_members += result["members"]
            num_bytes += result["bytes"]
            if result["shard"]:
                progress.advance(int(not result["damage"]), int(bool(result["damage"])))
    for item in damage:
        print(f"damaged: {on_one_line(str(item))}")
    print(
        f"{progress.num_done} shards, {num_members} members, {num_bytes / 1e6:.1f} MB read in {progress.seconds:.1f} s "
        f"({num_bytes / 1e6 / progress.seconds:.0f} MB/s): {len(damage)} damaged parts"
    )
    if damage and delete:
        print(f"deleted {', '.join(delete_damaged(folder, damage)) or 'nothing'}: run the sharding job again")
    elif damage:
        print("to mend it, run this with --delete-damaged, then the sharding job again")
    return not damage

"""Verifies a log with tlog-scales, which shares no code with Mill.

    verify.py FOLDER PUBLIC-KEY [KEPT-CHECKPOINT]

Prints `ok SIZE`, or what is wrong and exits with 1. With `write FOLDER NAME SIZE` it writes a log, and prints its public key.
"""

import pathlib
import sys

from tlog_scales import backend, reader, signing, tiles, tlog, utils, writer


class Wrong(Exception):
    pass


def checkpoint(path, vkey):
    read = tlog.Checkpoint.from_text(path.read_text())
    if not signing.VkeySet(vkey).verify(read.signatures, read):
        raise Wrong(f"{path.name} is not signed by the key")
    return read


def entries(log, size):
    """Each entry must have the hash that its tile has."""
    for index in range(size):
        if tiles.leaf_hash(log.get_entry(index)) != log._get_from_tile(0, *divmod(index, 256)):
            raise Wrong(f"entry {index} is not what its tile says")
    for number in range(-(-size // 256)):
        rest = size % 256 if number == size // 256 else 0
        bundle = log._get_tile(-1, number, rest)
        if bundle is None or bundle.length != (rest or 256):
            raise Wrong(f"bundle {number} has too few or too many entries")


def upper_tiles(log, size):
    """Each hash of an upper tile must be that of the full tile below it."""
    level = 1
    while tiles.level_entries(size, level):
        for number in range(tiles.level_entries(size, level)):
            row = log._get_tile(level - 1, number).entries
            while len(row) > 1:
                row = [utils.sha256(b"\x01" + row[at] + row[at + 1]) for at in range(0, len(row), 2)]
            if row[0] != log._get_from_tile(level, *divmod(number, 256)):
                raise Wrong(f"tile {level - 1}/{number} is not what the tile above says")
        level += 1


def proofs(folder, log, new):
    """What Mill wrote, and what tlog-scales makes of the tiles."""
    for path in sorted((folder / "proofs").glob("*.tlog-proof")):
        proof, note = path.read_text().split("\n\n", 1)
        first, index, *hashes = proof.split("\n")
        index = int(index.removeprefix("index "))
        assert first == "c2sp.org/tlog-proof@v1"
        signed = tlog.Checkpoint.from_text(note)
        read = tlog.InclusionProof(index, signed.size, [utils.b64dec(line) for line in hashes])
        read.check(tiles.leaf_hash(log.get_entry(index)), signed.root_hash)
        if read != log.get_inclusion_proof(index, new.size):
            raise Wrong(f"{path.name} is another proof")
    for path in sorted((folder / "proofs").glob("*.consistency")):
        old = tlog.Checkpoint.from_text((folder / f"kept-{path.stem}").read_text())
        read = tlog.ConsistencyProof(old.size, new.size, [utils.b64dec(line) for line in path.read_text().split()])
        read.check(old.root_hash, new.root_hash)
        if read != log.get_consistency_proof(old.size, new.size):
            raise Wrong(f"{path.name} is another proof")


def verify(folder, key, kept=None):
    folder, vkey = pathlib.Path(folder), signing.Vkey.from_string(key)
    new = checkpoint(folder / "checkpoint", vkey)
    log = reader.TilesReader(backend.LocalBackend(folder))
    log.set_size(new.size)
    if kept is not None:
        old = checkpoint(pathlib.Path(kept), vkey)
        if old.size > new.size:
            raise Wrong(f"rolled back from {old.size} to {new.size}")
        if old.size == new.size and old.root_hash != new.root_hash:
            raise Wrong(f"forked at {new.size}")
        log.get_consistency_proof(old.size, new.size).check(old.root_hash, new.root_hash)
    entries(log, new.size)
    upper_tiles(log, new.size)
    if log.calculate_root_hash() != new.root_hash:
        raise Wrong("the tiles do not give the root")
    proofs(folder, log, new)
    print("ok", new.size)


def write(folder, name, size):
    signer = signing.PlainEd25519Signer(name, bytes(range(32)))
    log = writer.TilesWriter.create(pathlib.Path(folder) / "log", name)
    for number in range(int(size)):
        log.add_leaf(f"entry {number}".encode())
        if number % 1000 == 700:
            log.commit([signer])
    log.commit([signer])
    print(signer.vkey.serialize())


try:
    write(*sys.argv[2:]) if sys.argv[1] == "write" else verify(*sys.argv[1:])
except Exception as error:  # whatever it is, the log is not verified
    print(f"{type(error).__name__}: {error}")
    sys.exit(1)

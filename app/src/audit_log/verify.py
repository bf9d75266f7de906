#!/usr/bin/env python3
"""Verifies the proofs in this folder: python3 verify.py [--key VKEY] [FOLDER]

For each N.tlog-proof it checks that N.json is entry N of a log whose checkpoint the key has signed, and that
N.whole.json, if there is one, has the SHA-256 that N.json names. An entry without a proof is refused. That none was taken
out of the folder is not proven: only the whole log tells what else is in it. Formats: c2sp.org/tlog-proof, c2sp.org/signed-note,
RFC 6962. It needs no network. The exit code is 0 only if every proof holds.
"""
import base64
import hashlib
import json
import pathlib
import sys


class Refused(Exception):
    """A proof does not hold."""


# Signatures: by PyCA cryptography if it is there, else by the arithmetic of RFC 8032.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    m, n = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number, point):
    sum_ = (0, 1, 1, 0)
    while number:
        if number & 1:
            sum_ = add(sum_, point)
        point, number = add(point, point), number >> 1
    return sum_


def point_of(data):
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        raise Refused("a point of the signature or the key is none")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        raise Refused("a point of the signature or the key is none")
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def has_signed_by_arithmetic(key, signature, message):
    if len(key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    x1, y1, z1, _ = multiply(s, BASE)
    x2, y2, z2, _ = add(point_of(signature[:32]), multiply(k, point_of(key)))
    return (x1 * z2 - x2 * z1) % P == 0 and (y1 * z2 - y2 * z1) % P == 0


def has_signed(key, signature, message):
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return has_signed_by_arithmetic(key, signature, message)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_of(vkey):
    name, key_id, data = vkey.strip().split("+", 2)
    data = base64.b64decode(data, validate=True)
    if data[:1] != b"\x01" or len(data) != 33:
        raise Refused("the key is no Ed25519 key")
    if hashlib.sha256(name.encode() + b"\n" + data).digest()[:4].hex() != key_id:
        raise Refused("the id of the key is not that of its name and bytes")
    return name, bytes.fromhex(key_id), data[1:]


def open_checkpoint(note, keys):
    """The size and the root of a checkpoint that one of the keys has signed."""
    end = note.rfind("\n\n")
    if end < 0:
        raise Refused("the checkpoint is no signed note")
    text, lines = note[: end + 1], note[end + 2 :].rstrip("\n").split("\n")
    signed = False
    for line in lines:
        dash, name, data = line.split(" ")
        data = base64.b64decode(data, validate=True)
        for key_name, key_id, key in keys:
            if dash == "\u2014" and name == key_name and data[:4] == key_id:
                if not has_signed(key, data[4:], text.encode()):
                    raise Refused("the signature is not of this checkpoint")
                signed = True
    if not signed:
        raise Refused("no key that is known here has signed the checkpoint")
    origin, size, root = text.split("\n")[:3]
    if origin != keys[0][0]:
        raise Refused("the checkpoint is of another log: " + origin)
    return int(size), base64.b64decode(root, validate=True)


def root_of(index, size, entry, hashes):
    """The root that an entry and the hashes beside its way give: RFC 9162, 2.1.3.2."""
    sha256 = lambda data: hashlib.sha256(data).digest()
    if index >= size:
        raise Refused("the log has fewer entries")
    at, last, found = index, size - 1, sha256(b"\x00" + entry)
    for beside in hashes:
        if last == 0:
            raise Refused("there are too many hashes")
        if at & 1 or at == last:
            found = sha256(b"\x01" + beside + found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = sha256(b"\x01" + found + beside)
        at, last = at >> 1, last >> 1
    if last:
        raise Refused("there are too few hashes")
    return found


def verify(path, keys):
    text = path.read_bytes().decode()
    proof, note = text.split("\n\n", 1)
    lines = proof.split("\n")
    if lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise Refused("this is no proof")
    if lines[0].startswith("extra "):
        lines.pop(0)
    word, index = lines.pop(0).split(" ")
    if word != "index":
        raise Refused("it does not say which entry")
    index, hashes = int(index), [base64.b64decode(line, validate=True) for line in lines]
    size, root = open_checkpoint(note, keys)
    entry = path.with_suffix(".json").read_bytes()
    if root_of(index, size, entry, hashes) != root:
        raise Refused("the entry is not in the log at this place: it, or the proof, was changed")
    if path.name != f"{index}.tlog-proof":
        raise Refused(f"it is the proof of entry {index}")
    said = json.loads(entry)
    whole = path.with_suffix(".whole.json")
    if "whole" not in said and whole.exists():
        raise Refused(f"{whole.name} is none of the log's")
    if "whole" in said:
        whole = whole.read_bytes()
        if "sha256:" + hashlib.sha256(whole).hexdigest() != said["whole"]:
            raise Refused("the whole entry has other bytes than the log names")
        said = json.loads(whole)
    event = said["event"]
    subject = [event["store"], event["space"]] + ([event["item"]] if "item" in event else [])
    print(f"entry {index} of {size} is proven: {event['action']} {json.dumps(subject)}")


def main(arguments):
    given = None
    if arguments[:1] == ["--key"]:
        given, arguments = arguments[1], arguments[2:]
    folder = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent)
    try:
        lines = (given or (folder / "key.txt").read_text(encoding="utf-8")).splitlines()
        keys = [key_of(line) for line in lines if line.strip()]
    except (Refused, ValueError, OSError) as error:
        print(f"the key cannot be used: {error}", file=sys.stderr)
        return 1
    proofs = sorted(folder.glob("*.tlog-proof"))
    for path in sorted(folder.glob("*.json")):
        number = path.name.removesuffix(".json").removesuffix(".whole")
        if not (folder / f"{number}.tlog-proof").exists():
            print(f"{path.name} has no proof beside it", file=sys.stderr)
            return 1
    for path in proofs:
        try:
            verify(path, keys)
        except (Refused, ValueError, KeyError, IndexError, TypeError, OSError) as error:
            print(f"{path.name} proves nothing: {error}", file=sys.stderr)
            return 1
    if not proofs or not keys:
        print("there are no proofs, or no key, in this folder", file=sys.stderr)
        return 1
    print(f"log {keys[0][0]}: every proof holds" + ("" if given else "; compare key.txt with the key that was published"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

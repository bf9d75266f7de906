"""Checks a report against the source itself: each entry is accounted for, none twice, and the sums are right."""
import base64, collections, json, os, sys

report, source = sys.argv[1], os.fsencode(sys.argv[2])
first, *lines, last = [json.loads(line) for line in open(report, encoding="utf-8")]
assert first["mill_report"] == 1 and first["run"] and last["complete"] is True, (first, last)

def name(line):
    own = base64.b64decode(line["item_base64"]) if "item_base64" in line else line["item"].encode()
    return os.path.join(line.get("space", "").encode(), own).rstrip(b"/")

here = [name(line) for line in lines if "at" not in line and line["what"] != "earlier"]
twice = [entry for entry, count in collections.Counter(here).items() if count > 1]
assert not twice, twice
walked = set()
for folder, folders, files in os.walk(source):
    closed = [entry for entry in folders if not os.lstat(os.path.join(folder, entry)).st_mode & 0o004]
    links = [entry for entry in folders if os.path.islink(os.path.join(folder, entry))]
    folders[:] = [entry for entry in folders if entry not in closed]
    beside = folder == source and "source" not in first
    named = links + closed + ([] if beside else files)
    walked |= {os.path.relpath(os.path.join(folder, entry), source) for entry in named}
assert set(here) == walked, sorted(set(here) ^ walked)[:20]
counts = collections.Counter(line["what"] for line in lines)
assert counts == last["lines"], (counts, last)
for what in "copied updated unchanged refused hidden ignored vanished dropped dead_lettered deleted held left_out".split():
    assert counts[what] == last["sums"][what], (what, counts, last["sums"])
counts["of earlier runs"] = sum("earlier" in line for line in lines)
print(json.dumps(counts))

//! The examples of `mill audit`.

pub(crate) const AUDIT: &str = "Examples:
  mill audit new-key archive.example.org/audit --out /etc/mill/audit-key
  mill audit log --account library --last 20
  mill audit verify library --from last.checkpoint --save-checkpoint last.checkpoint
  mill audit prove library 1 photos 'summer/01.jpg' --out proof

The log is a transparency log (C2SP tlog-tiles): what was entered cannot be changed or removed unnoticed, as
long as somebody keeps an older checkpoint. Anybody with its public key can verify it, without Mill too.";

pub(crate) const NEW_KEY: &str = "Examples:
  mill audit new-key archive.example.org/audit
  mill audit new-key archive.example.org/audit --out /run/secrets/audit-key

The secret key goes into the file, and is never printed. Whoever has it can sign another log, so keep it from
those who can write into the stores of the log. Without it nothing can be added; keep a copy of it.";

pub(crate) const PUBLIC_KEY: &str = "Example:
  mill audit public-key library         publish it where the log's keepers cannot change it unnoticed";

pub(crate) const LOG: &str = "Examples:
  mill audit log --last 20
  mill audit log --account library --since 2026-11-01 --action delete-content
  mill audit log --account library --store 1 --space photos --item summer/01.jpg
  mill audit log --follow --json        one JSON object a line, as entries are published

Columns: index, time, what was done, store, space/item, who, size, checksum. In names control characters and
backslashes are escaped; `-` is what is not known, or a name that was erased. What it shows is not verified:
`mill audit verify` does that.";

pub(crate) const VERIFY: &str = "Examples:
  mill audit verify                     the logs of all accounts, in each of their stores
  mill audit verify library --save-checkpoint ~/library.checkpoint
  mill audit verify library --from ~/library.checkpoint --save-checkpoint ~/library.checkpoint
  mill audit verify --folder /mnt/usb/x-audit-log --key \"$(cat library.vkey)\"
  mill audit verify --proof proof       a folder of `mill audit prove`

Without --from nobody can tell a log from an older state of itself. The exit code is 0 only if nothing is
wrong; 100, and the first bad entry is named, if anything is; 2 if a store has a part of the log only.";

pub(crate) const PROVE: &str = "Examples:
  mill audit prove library 1 photos 'summer/01.jpg' --out proof
  python3 proof/verify.py               whoever gets the folder, without Mill and without a network";

pub(crate) const EXPORT: &str = "Examples:
  mill audit export library --format tsv --out library.tsv
  mill audit export library photos --store 1 --format premis --out photos.xml
  mill audit export library --format json | jq .event.action

tsv has DuraCloud's 14 columns. In its fields a tab is \\t, a newline \\n, a carriage return \\r and a backslash
\\\\. In premis a character that XML cannot hold is \\u{…}, and a backslash \\u{5c}. Both are read back exactly.";

pub(crate) const INDEX: &str = "Examples:
  mill audit index library 1 photos compare
  mill audit index library 1 photos rebuild
  mill audit index library 1 photos export --format bagit > manifest-md5.txt
  mill audit index library 1 photos expire --older-than 30d";

pub(crate) const INDEX_REBUILD: &str = "Example:
  mill audit index library 1 photos rebuild      after changes of which no event came";

pub(crate) const INDEX_COMPARE: &str = "Example:
  mill audit index library 1 photos compare";

pub(crate) const INDEX_EXPORT: &str = "Examples:
  mill audit index library 1 photos export --format tsv
  mill audit index library 1 photos export --format bagit --algorithm sha256

In tsv a tab, newline, carriage return or backslash of a name is \\t, \\n, \\r or \\\\; in bagit, as RFC 8493
says, a newline is %0A, a carriage return %0D and a per cent sign %25.";

pub(crate) const INDEX_EXPIRE: &str = "Example:
  mill audit index library 1 photos expire --older-than 30d";

pub(crate) const ERASE_USER: &str = "Example:
  mill audit erase-user library 'Zoë Example'

The name and the random salt of its commitments go; entries, proofs and checkpoints stay valid. Backups of the
installation's tables have both still.";

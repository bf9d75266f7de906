//! A log in a folder, written by this crate, with all that was ever signed of it.

use std::fs;
use std::path::{Path, PathBuf};

use mill_transparency::{
    Checkpoint, ConsistencyProof, EntryProof, InclusionProof, LogPath, LogSigner, LogVerifier, RightEdge,
};
use tempfile::TempDir;

/// The name of the log.
pub(crate) const ORIGIN: &str = "example.com/mill/log";

/// A log in a folder of its own.
pub(crate) struct WrittenLog {
    folder: TempDir,
    signer: LogSigner,
    edge: RightEdge,
}

/// An entry of the log: of any length, also none.
pub(crate) fn entry(number: u64) -> Vec<u8> {
    let mut entry = format!("{number}:").into_bytes();
    entry.resize((number % 97) as usize, b'.');
    entry
}

impl WrittenLog {
    /// A log of this size, written in batches. After each the checkpoint is kept as `kept-<size>`.
    pub(crate) fn create(signer: LogSigner, sizes: &[u64]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = Self { folder, signer, edge: RightEdge::empty() };
        for size in sizes {
            let entries: Vec<Vec<u8>> = (log.edge.size()..*size).map(entry).collect();
            log.append(&entries);
        }
        log
    }

    /// Reads the right edge from the folder, and writes all that is new.
    pub(crate) fn append(&mut self, entries: &[Vec<u8>]) {
        let needs = RightEdge::needs(self.edge.size());
        let files = needs.into_iter().map(|path| (path, fs::read(self.file(path)).expect("a file"))).collect();
        let edge = RightEdge::open(self.edge.size(), self.edge.root(), &files).expect("its own right edge");
        let appended = edge.append(entries).expect("short entries");
        for (path, bytes) in &appended.files {
            assert!(!self.file(*path).exists(), "{path} is written twice");
            write(&self.file(*path), bytes);
        }
        self.edge = appended.edge;
        let note = self.state().sign(&[&self.signer]).expect("signed").to_string();
        write(&self.file(LogPath::Checkpoint), note.as_bytes());
        write(&self.kept(self.edge.size()), note.as_bytes());
    }

    /// Where a file lies.
    pub(crate) fn file(&self, path: LogPath) -> PathBuf {
        self.folder.path().join(path.to_string())
    }

    /// The log's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The checkpoint that was kept when the log had this size.
    pub(crate) fn kept(&self, size: u64) -> PathBuf {
        self.folder.path().join(format!("kept-{size}"))
    }

    /// The public key.
    pub(crate) fn key(&self) -> String {
        self.signer.public().to_string()
    }

    /// What checks its signatures.
    pub(crate) fn verifier(&self) -> LogVerifier {
        LogVerifier::parse(&self.key()).expect("its key")
    }

    /// What is signed.
    pub(crate) fn state(&self) -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: self.edge.size(), root: self.edge.root() }
    }

    /// Writes proofs for others to check: of entries, and of sizes.
    pub(crate) fn write_proofs(&self, indexes: &[u64], sizes: &[u64]) {
        let size = self.edge.size();
        let read = |path| fs::read(self.file(path)).map(Some);
        let note = fs::read_to_string(self.file(LogPath::Checkpoint)).expect("the checkpoint");
        for index in indexes {
            let included = InclusionProof::make(*index, size, read).expect("all tiles");
            let proof = EntryProof::new(included, note.parse().expect("a note"));
            write(&self.folder.path().join(format!("proofs/{index}.tlog-proof")), proof.to_string().as_bytes());
        }
        for old in sizes {
            let proof = ConsistencyProof::make(*old, size, read).expect("all tiles");
            let hashes: Vec<String> = proof.hashes.iter().map(|hash| format!("{hash}\n")).collect();
            write(&self.folder.path().join(format!("proofs/{old}.consistency")), hashes.concat().as_bytes());
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
    fs::write(path, bytes).expect("the file is written");
}

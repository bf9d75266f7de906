//! The trace of a world: a hash of all events, equal in two runs of a seed, and their lines for readers.

use std::fmt::{self, Write as _};

use mill_model::Monotonic;

/// A world with more events never ends; it fails at once.
const EVENTS_MAX: u64 = 2_000_000;

/// The trace of one world.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Hash,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps lines only if `lines` is set: any seed can be run again for them.
    pub(crate) fn new(lines: bool) -> Self {
        Self { hash: Hash::default(), events: 0, lines: lines.then(Vec::new) }
    }

    pub(crate) fn note(&mut self, at: Monotonic, what: fmt::Arguments<'_>) {
        self.events += 1;
        self.hash.add(&at.since_origin().as_nanos().to_le_bytes());
        // Writing into a hash cannot fail.
        let _ = self.hash.write_fmt(what);
        assert!(self.events < EVENTS_MAX, "this world never ends: {} {what}", clock(at));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{} {what}", clock(at)));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// Days, hours, minutes, seconds since the world began.
fn clock(at: Monotonic) -> String {
    let millis = at.since_origin().as_millis();
    let (seconds, millis) = (millis / 1000, millis % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// FNV-1a: quick, and nobody attacks it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }

    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.add(bytes);
        hash.0
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}

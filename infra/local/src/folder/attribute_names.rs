//! The names of a file's extended attributes: one call that mostly shows that there is nothing else to read.

use std::sync::LazyLock;

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::Uid;

use super::file_system;

/// Longest list of names that is looked through. Mill's own and a system's label are far shorter.
const NAMES_MAX: usize = 4096;

/// The user as whom this process makes files.
pub(super) static OWN_USER: LazyLock<Uid> = LazyLock::new(rustix::process::geteuid);

/// The names of the extended attributes of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttributeNames {
    /// These, each with a zero byte at its end.
    Listed(Vec<u8>),
    /// More than are looked through.
    TooMany,
    /// The file system does not tell them.
    Untold,
}

impl AttributeNames {
    /// The names of the attributes of an open file or directory.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub(super) fn of(file: impl AsFd) -> Result<Self, Errno> {
        let mut names = [0_u8; NAMES_MAX];
        match rustix::fs::flistxattr(file, &mut names[..]) {
            Ok(length) => Ok(Self::Listed(names[..length].to_vec())),
            Err(Errno::RANGE) => Ok(Self::TooMany),
            Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::ACCESS) => Ok(Self::Untold),
            Err(errno) => Err(errno),
        }
    }

    /// The names, where there are few.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let listed = if let Self::Listed(names) = self { names.as_slice() } else { &[] };
        listed.split(|byte| *byte == 0).filter(|name| !name.is_empty())
    }

    /// Whether a file on that device surely has no attribute of this name. A list proves that only on file systems that are known
    /// to name each attribute that can be read.
    pub(super) fn lack(&self, name: &str, device: u64) -> bool {
        match self {
            Self::Listed(_) => !self.iter().any(|listed| listed == name.as_bytes()) && file_system::lists_all(device),
            Self::TooMany | Self::Untold => false,
        }
    }
}

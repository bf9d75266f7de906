//! What was read of a policy file.

/// The largest policy file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The bytes of a policy file, or how many there are, where they are too many to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileContent<B = Vec<u8>> {
    /// All bytes.
    Whole(B),
    /// There are more than [`FILE_BYTES_MAX`].
    TooLarge {
        /// How many there are.
        bytes: u64,
    },
}

impl<B: AsRef<[u8]>> FileContent<B> {
    /// The same, borrowed.
    pub fn as_ref(&self) -> FileContent<&[u8]> {
        match self {
            Self::Whole(bytes) => FileContent::Whole(bytes.as_ref()),
            Self::TooLarge { bytes } => FileContent::TooLarge { bytes: *bytes },
        }
    }
}

impl<'b, B: AsRef<[u8]> + ?Sized> From<&'b B> for FileContent<&'b [u8]> {
    fn from(bytes: &'b B) -> Self {
        Self::Whole(bytes.as_ref())
    }
}

//! The place that a copy was made from.

use serde::{Deserialize, Serialize};

/// The place that a copy was made from, as the mark on the copy names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalPlace {
    /// The identity of its holder: a file system, or a bucket of a service.
    pub holder: String,
    /// Its path in the holder, as far as it is text.
    pub within: String,
    /// Its identity, which stays if it is renamed.
    pub identity: Option<String>,
}

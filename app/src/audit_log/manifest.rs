//! Manifests of a space, from its content index.

use std::io::Write;
use std::str::FromStr;

use anyhow::Result;
use futures::TryStreamExt as _;
use mill_model::Algorithm;

use super::field_escape::{bagit, tsv};
use super::index::SpaceIndex;
use crate::UsageError;

/// The form of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestFormat {
    /// DuraCloud's: `space-id`, `content-id` and `MD5`, with tabs.
    Tsv,
    /// Lines of a payload manifest of BagIt: the checksum, two blanks, `data/` and the item.
    Bagit,
}

impl ManifestFormat {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Tsv, Self::Bagit];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tsv => "tsv",
            Self::Bagit => "bagit",
        }
    }
}

impl FromStr for ManifestFormat {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| UsageError("the formats are tsv and bagit".into()))
    }
}

/// What a manifest has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ManifestCount {
    /// Its lines.
    pub items: u64,
    /// Items whose checksum of this sort the index does not know: an empty field in TSV, and left out of BagIt's lines.
    pub without_checksum: u64,
}

impl SpaceIndex {
    /// Writes a manifest of what the index has: each item that is not deleted, in byte order.
    ///
    /// # Errors
    /// The table does not answer; `out` cannot be written.
    pub async fn manifest(
        &self,
        format: ManifestFormat,
        algorithm: Algorithm,
        out: &mut (dyn Write + Send),
    ) -> Result<ManifestCount> {
        if format == ManifestFormat::Tsv {
            writeln!(out, "space-id\tcontent-id\t{}", algorithm.as_str().to_uppercase())?;
        }
        let mut done = ManifestCount::default();
        let mut rows = self.rows();
        while let Some((id, row)) = rows.try_next().await? {
            if row.deleted {
                continue;
            }
            let checksum = row.checksums.iter().find(|checksum| checksum.algorithm == algorithm);
            done.without_checksum += u64::from(checksum.is_none());
            match (format, checksum) {
                (ManifestFormat::Tsv, _) => {
                    let hex = checksum.map(mill_model::Checksum::hex).unwrap_or_default();
                    writeln!(out, "{}\t{}\t{hex}", tsv(self.space_id().as_str()), tsv(id.as_str()))?;
                }
                (ManifestFormat::Bagit, Some(checksum)) => {
                    writeln!(out, "{}  data/{}", checksum.hex(), bagit(id.as_str()))?;
                }
                (ManifestFormat::Bagit, None) => continue,
            }
            done.items += 1;
        }
        out.flush()?;
        Ok(done)
    }
}

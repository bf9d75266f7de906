//! What `mill audit` does with audit logs: keys, entries, verification, proofs and exports; and with the content index.
//!
//! Reading order: [`keys`], [`readable_log`] (a log in the stores of an installation, or in a folder), [`entries`] and
//! [`entry_filter`], [`verification`] and [`log_fault`], [`proofs`] and [`proof_folder`], [`export`] with [`field_escape`] and
//! `premis`, [`index`] and [`manifest`], [`erasure`].
//!
//! **Invariant:** nothing here writes into a log, and only [`keys::new_key`] and what opens a log without `--key` ever sees a
//! secret key.

pub mod entries;
pub mod entry_filter;
pub mod erasure;
pub mod export;
pub mod field_escape;
pub mod index;
pub mod keys;
pub mod log_fault;
pub mod manifest;
mod premis;
pub mod proof_folder;
pub mod proofs;
pub mod readable_log;
pub mod verification;

use anyhow::Result;
use mill_model::Timestamp;

use crate::UsageError;

/// Reads a point in time that a person gives: `2026-11-30`, `2026-11-30T08:00:00Z`, or a time ago, such as `2h` or `30d`.
///
/// # Errors
/// [`UsageError`].
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.minus(ago));
    }
    let whole = if text.len() == "2026-11-30".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let wrong = || {
        UsageError(format!(
            "`{text}` is no time; write `2026-11-30`, `2026-11-30T08:00:00Z` (in UTC), or how long ago: `2h`, `30d`"
        ))
    };
    let at = humantime::parse_rfc3339_weak(&whole).map_err(|_| wrong())?;
    let since = at.duration_since(std::time::UNIX_EPOCH).map_err(|_| wrong())?;
    Ok(Timestamp::from_millis(u64::try_from(since.as_millis()).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_a_moment_or_a_time_ago() {
        let now = Timestamp::from_millis(1_795_249_800_000);
        let read = |text: &str| parse_time(text, now).map(Timestamp::as_millis);
        assert_eq!(read("1970-01-02").unwrap(), 86_400_000);
        assert_eq!(read("1970-01-02T00:00:01Z").unwrap(), 86_401_000);
        assert_eq!(read("2h").unwrap(), 1_795_249_800_000 - 7_200_000);
        for wrong in ["", "yesterday", "2026-13-01", "2026-11-30T08"] {
            assert!(read(wrong).unwrap_err().is::<UsageError>(), "{wrong}");
        }
    }
}

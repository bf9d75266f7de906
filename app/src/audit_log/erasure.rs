//! Erases a person's name from what is kept beside a log.

use anyhow::{Result, bail};
use futures::TryStreamExt as _;

use super::entries::WantedEntries;
use super::entry_filter::EntryFilter;
use super::readable_log::ReadableLog;

/// What an erasure came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Erased {
    /// The entries whose name and salt are gone.
    pub entries: u64,
    /// Events with this name that still wait for their places. Their names can be erased once they have them.
    pub waiting: u64,
}

impl ReadableLog {
    /// Erases this name, with its salts, from the places of all entries. The entries stay, and so does what the log proves: but
    /// nobody can tell any more whose names they have commitments to.
    ///
    /// # Errors
    /// The log or the table does not answer. What was erased stays so, and a repeat goes on.
    pub async fn erase_user(&self, user: &str) -> Result<Erased> {
        let (Some(table), Some(account)) = (&self.table, &self.account) else {
            bail!("names are kept by an installation")
        };
        let mut done = Erased::default();
        let ready = table.ready(account, Self::WAITING_MAX).await?;
        done.waiting = ready.iter().filter(|ready| ready.event.user.as_deref() == Some(user)).count() as u64;
        let Some(reader) = self.reader().await? else { return Ok(done) };
        let filter = EntryFilter { user: Some(user.to_owned()), ..EntryFilter::default() };
        let mut entries = reader.entries(WantedEntries::From(0), &filter);
        while let Some(entry) = entries.try_next().await? {
            // One that cannot be read would keep a name that nobody finds.
            let entry = entry.read()?;
            done.entries += u64::from(table.erase_user(account, &entry.event, user).await?);
        }
        Ok(done)
    }
}

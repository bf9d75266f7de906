//! Brings a space in sync.

use mill_ports::Presence;

use super::context::AttemptContext;
use crate::early_exit::EarlyExit;

impl AttemptContext<'_> {
    /// Brings the destination space itself in sync; its items have their own tasks.
    pub(super) async fn sync_space(&self) -> Result<(), EarlyExit> {
        match self.source_space().await? {
            Presence::Present(_) if self.shared.deps.dry_run => Ok(()),
            Presence::Present(_) => self.create_space(self.creations()).await,
            Presence::Absent => {
                self.log_left_in_place(&self.pair.space, "its source space is not there");
                Ok(())
            }
        }
    }
}

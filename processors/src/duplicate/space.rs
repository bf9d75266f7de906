//! What is done with a space.

use mill_ports::Presence;

use super::context::AttemptContext;
use crate::early_exit::EarlyExit;

impl AttemptContext<'_> {
    /// Brings the destination space itself in sync; its items have their own tasks.
    pub(super) async fn space(&self) -> Result<(), EarlyExit> {
        match self.source_space().await? {
            Presence::Present(_) => self.create_space(self.made()).await,
            Presence::Absent => {
                self.left_in_place(&self.pair.space, "its source space is not there");
                Ok(())
            }
        }
    }
}

//! Looks for an item at either side of a pair, with a few tries.

use mill_hooks::{PlantedBug, is_planted};
use mill_model::{ItemAddress, ItemFacts};
use mill_ports::{Presence, SourceStore, StoreError, StoreErrorKind};

use crate::retry::StoreRetry;

impl StoreRetry {
    /// The facts of an item at the source. `Absent` is a definite no.
    pub(crate) async fn source_head(
        &self,
        source: &dyn SourceStore,
        item: &ItemAddress,
    ) -> Result<Presence<ItemFacts>, StoreError> {
        match self.run(|| source.head(item)).await {
            Err(error) if is_planted(PlantedBug::DeniedReadAsAbsent) && error.kind == StoreErrorKind::Unavailable => {
                Ok(Presence::Absent)
            }
            other => other,
        }
    }

    /// The facts of an item at the destination. An absent space has no item.
    pub(crate) async fn destination_head(
        &self,
        destination: &dyn SourceStore,
        item: &ItemAddress,
    ) -> Result<Presence<ItemFacts>, StoreError> {
        match self.run(|| destination.head(item)).await {
            Err(error) if error.kind == StoreErrorKind::SpaceAbsent => Ok(Presence::Absent),
            other => other,
        }
    }
}

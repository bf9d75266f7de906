//! Sources that are copies of their destination: what they hold may be older than their originals, which they would overwrite.

use std::path::Path;

use mill_model::{OriginalPlace, SpaceId};
use mill_ports::{PlacedStore, SpaceLocation, StoreError};
use mill_records::destinations::DestinationKeeper;

use super::{Advice, DestinationPlaces, keeper_of, registered};

/// The copy of a destination that was found at a source.
pub(crate) struct FoundCopy {
    /// Its path or address.
    pub(crate) place: String,
    /// Who keeps it in sync with the destination.
    pub(crate) keeper: DestinationKeeper,
}

/// A space of a store, as a place.
type PlacedSpace<'p> = (&'p dyn PlacedStore, &'p SpaceId);

impl DestinationPlaces {
    /// The copy that a source is, or is a part of, whose original lies where the destination writes it.
    pub(crate) async fn copy_of(
        &self,
        source: PlacedSpace<'_>,
        destination: PlacedSpace<'_>,
    ) -> anyhow::Result<Option<FoundCopy>> {
        let Some((from, to)) = locations(source, destination).await? else { return Ok(None) };
        for (path, mark) in &from.marks {
            let part = from.path.strip_prefix(path).ok();
            if part.zip(mark.original.as_ref()).is_some_and(|(part, original)| is_part(&to, original, part)) {
                return Ok(Some(FoundCopy { place: path.display().to_string(), keeper: keeper_of(mark) }));
            }
        }
        if from.bears_marks {
            return Ok(None);
        }
        let keeper = match self.register().await {
            Ok(register) => register.keeper(&registered(&from)).await?,
            Err(error) => {
                tracing::warn!("whether `{}` is a copy is not known: {error:#}", from.path.display());
                None
            }
        };
        let is_its = |keeper: &DestinationKeeper| {
            keeper.original.as_ref().is_some_and(|original| is_part(&to, original, Path::new("")))
        };
        let place = from.path.display().to_string();
        Ok(keeper.filter(is_its).map(|keeper| FoundCopy { place, keeper }))
    }

    /// The same for a copy inside the source. Asks for all claims of the source's holder.
    pub(crate) async fn copy_inside(
        &self,
        source: PlacedSpace<'_>,
        destination: PlacedSpace<'_>,
    ) -> anyhow::Result<Option<FoundCopy>> {
        let Some((from, to)) = locations(source, destination).await? else { return Ok(None) };
        let gone = |theirs: &mill_records::destinations::DestinationPlace| {
            source.0.is_gone(&from, mill_ports::PlaceInHolder { within: &theirs.within, identity: &theirs.identity })
        };
        for (theirs, keeper) in self.register().await?.inside(&registered(&from), gone).await? {
            let (Ok(part), Some(original)) = (theirs.within.strip_prefix(&from.within), &keeper.original) else {
                continue;
            };
            if is_at(original, &to.holder, &to.within.join(part)) {
                return Ok(Some(FoundCopy { place: theirs.shown, keeper }));
            }
        }
        Ok(None)
    }

    /// Checks that a source is no copy of its destination.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`](mill_ports::StoreErrorKind::Refused) when it is; that the places cannot be looked at.
    pub(crate) async fn ensure_not_copy(
        &self,
        source: PlacedSpace<'_>,
        destination: PlacedSpace<'_>,
        Advice(way_out): Advice<'_>,
    ) -> Result<(), StoreError> {
        let found = self.copy_of(source, destination).await;
        let Some(FoundCopy { place, keeper }) = found.map_err(|error| source.0.unavailable(source.1, error.into()))?
        else {
            return Ok(());
        };
        let why = format!(
            "its source `{place}` is the copy that {} keeps of this very place: to copy it back would overwrite newer items. Nothing \
             was changed. Did two disks or two roots change places? Only if the copy is the original from now on: `{way_out}`",
            keeper.shown
        );
        let (to, space) = destination;
        Err(to.refused("copy", space.as_str(), mill_ports::RefusalReason::ForeignDestination(why)))
    }
}

async fn locations(
    (source, from): PlacedSpace<'_>,
    (destination, to): PlacedSpace<'_>,
) -> Result<Option<(SpaceLocation, SpaceLocation)>, StoreError> {
    Ok(source.space_location(from).await?.zip(destination.space_location(to).await?))
}

/// Whether a place is the part `part` of an original. An empty part is the whole, which may have been renamed.
fn is_part(place: &SpaceLocation, original: &OriginalPlace, part: &Path) -> bool {
    let is_whole = part.as_os_str().is_empty() && place.holder == original.holder;
    let is_renamed = is_whole && place.identity.is_some() && place.identity == original.identity;
    let part = OriginalPlace {
        within: Path::new(&original.within).join(part).to_string_lossy().into_owned(),
        ..original.clone()
    };
    is_renamed || is_at(&part, &place.holder, &place.within)
}

fn is_at(original: &OriginalPlace, holder: &str, within: &Path) -> bool {
    original.holder == holder && Path::new(&original.within) == Path::new(&*within.to_string_lossy())
}

//! Sources that are copies of their destination: what they hold may be older than their originals, which they would overwrite.

use std::path::Path;

use mill_model::{OriginalPlace, SpaceId};
use mill_ports::{PlaceInHolder, PlacedStore, RefusalReason, SpaceLocation, StoreError};
use mill_records::destinations::{DestinationKeeper, DestinationPlace};

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
            let Ok(part) = from.path.strip_prefix(path) else { continue };
            let originals = self.originals(mark.original.as_ref()).await?;
            if originals.iter().any(|original| is_part(&to, original, part)) {
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

    /// The same for a copy inside the source or around it, and for a copy of a copy. Asks for all claims of the source's holder, and
    /// for the marks on what lies in the source.
    pub(crate) async fn copy_near(
        &self,
        source: PlacedSpace<'_>,
        destination: PlacedSpace<'_>,
    ) -> anyhow::Result<Option<FoundCopy>> {
        let Some((from, to)) = locations(source, destination).await? else { return Ok(None) };
        let gone = |theirs: &DestinationPlace| {
            source.0.is_gone(&from, PlaceInHolder { within: &theirs.within, identity: &theirs.identity })
        };
        for (theirs, keeper) in self.register().await?.near(&registered(&from), gone).await? {
            let originals = self.originals(keeper.original.as_ref()).await?;
            let lands = |original: &OriginalPlace| {
                if let Ok(part) = theirs.within.strip_prefix(&from.within) {
                    is_at(original, &to.holder, &to.within.join(part))
                } else {
                    from.within.strip_prefix(&theirs.within).is_ok_and(|part| is_part(&to, original, part))
                }
            };
            if originals.iter().any(lands) {
                return Ok(Some(FoundCopy { place: theirs.shown, keeper }));
            }
        }
        for (part, mark) in source.0.marks_within(source.1).await? {
            let lands =
                mark.original.as_ref().is_some_and(|original| is_at(original, &to.holder, &to.within.join(&part)));
            if lands {
                let place = from.path.join(part).display().to_string();
                return Ok(Some(FoundCopy { place, keeper: keeper_of(&mark) }));
            }
        }
        Ok(None)
    }

    /// What a copy was made from, and what that is a copy of in its turn, as far as this host's register knows.
    async fn originals(&self, nearest: Option<&OriginalPlace>) -> anyhow::Result<Vec<OriginalPlace>> {
        const HOPS_MAX: usize = 16;
        let mut originals: Vec<_> = nearest.into_iter().cloned().collect();
        while let Some(OriginalPlace { holder, identity: Some(identity), .. }) = originals.last()
            && originals.len() < HOPS_MAX
            && let Some(keeper) = self.register().await?.keeper_of(holder, identity).await?
            && let Some(original) = keeper.original
        {
            originals.push(original);
        }
        Ok(originals)
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
        Err(to.refused("copy", space.as_str(), RefusalReason::ForeignDestination(why)))
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

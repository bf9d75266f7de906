//! The path of an item in a folder, and the ids that a folder cannot hold.

use mill_model::{ContentId, SpaceId};
use mill_ports::RefusalReason;

/// The directory directly under the root in which writes are prepared. It is neither a space nor an item.
pub(super) const IN_PROGRESS: &str = ".mill-in-progress";

/// How a store's spaces lie under its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Each directory directly under the root is a space.
    Spaces,
    /// The root itself is the one space.
    Single(SpaceId),
}

impl Layout {
    /// The space's directory, relative to the root: empty for the root itself; `None` for a space that cannot exist
    /// here.
    pub(super) fn directory<'a>(&self, space: &'a SpaceId) -> Option<&'a str> {
        match self {
            Self::Spaces => (space.as_str() != IN_PROGRESS).then_some(space.as_str()),
            Self::Single(only) => (only == space).then_some(""),
        }
    }
}

/// The path of an item, relative to the root. Every component of it is a plain name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ItemPath {
    path: String,
    space_len: usize,
    name_at: usize,
    /// Whether the id stands for an empty directory.
    pub(super) directory: bool,
}

impl ItemPath {
    /// The path of `id` in the space whose directory is `space`, or why a folder cannot hold it.
    pub(super) fn of(space: &str, id: &ContentId) -> Result<Self, RefusalReason> {
        let (directory, inner) = match id.as_str().strip_suffix('/') {
            Some(inner) => (true, inner),
            None => (false, id.as_str()),
        };
        let unholdable = |why: &str| Err(RefusalReason::UnrepresentableId(why.to_owned()));
        for component in inner.split('/') {
            match component {
                "" => return unholdable("a name between its slashes is empty"),
                "." | ".." => return unholdable("`.` and `..` are not names"),
                _ if component.len() > 255 => return unholdable("a name in it is longer than 255 bytes"),
                _ if component.contains('\0') => return unholdable("a zero byte stands in it"),
                _ => {}
            }
        }
        if space.is_empty() && inner.split('/').next() == Some(IN_PROGRESS) {
            return Err(RefusalReason::Reserved);
        }
        let mut path = String::with_capacity(space.len() + 1 + inner.len());
        path.push_str(space);
        if !space.is_empty() {
            path.push('/');
        }
        path.push_str(inner);
        let name_at = path.rfind('/').map_or(0, |slash| slash + 1);
        Ok(Self { path, space_len: space.len(), name_at, directory })
    }

    /// The whole path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The space's directory, relative to the root.
    pub(super) fn space(&self) -> &str {
        &self.path[..self.space_len]
    }

    /// Its path within the space.
    pub(super) fn within(&self) -> &str {
        self.path[self.space_len..].trim_start_matches('/')
    }

    /// Its parent directory, relative to the root; empty for the root itself.
    pub(super) fn parent(&self) -> &str {
        &self.path[..self.name_at.saturating_sub(1)]
    }

    /// The directories on the way to it within its space, outermost first, relative to the root.
    pub(super) fn directories(&self) -> impl Iterator<Item = &str> {
        let parent = self.parent();
        let begin = (self.space_len + usize::from(self.space_len > 0)).min(parent.len());
        let ends = parent[begin..].match_indices('/').map(move |(at, _)| begin + at);
        let last = (begin < parent.len()).then_some(parent.len());
        ends.chain(last).map(move |end| &parent[..end])
    }

    /// Its name in that directory.
    pub(super) fn name(&self) -> &str {
        &self.path[self.name_at..]
    }
}

/// The parent directory of `path`, and its name there.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ContentId {
        ContentId::new(text).unwrap()
    }

    #[test]
    fn ids_become_paths_below_their_space() {
        let item_path = ItemPath::of("photos", &id("2026/a b.jpg")).unwrap();
        assert_eq!((item_path.space(), item_path.parent(), item_path.name()), ("photos", "photos/2026", "a b.jpg"));
        let item_path = ItemPath::of("", &id("a")).unwrap();
        assert_eq!(
            (item_path.space(), item_path.parent(), item_path.name(), item_path.directory),
            ("", "", "a", false)
        );
        let item_path = ItemPath::of("s", &id("empty/")).unwrap();
        assert_eq!((item_path.parent(), item_path.name(), item_path.directory), ("s", "empty", true));
    }

    #[test]
    fn the_directories_on_the_way_are_those_within_the_space() {
        let directories = |space: &str, text: &str| {
            let item_path = ItemPath::of(space, &id(text)).unwrap();
            item_path.directories().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(directories("s", "a/b/c"), ["s/a", "s/a/b"]);
        assert_eq!(directories("", "a/b/c/"), ["a", "a/b"]);
        assert!(directories("s", "a").is_empty() && directories("", "a").is_empty());
    }

    #[test]
    fn ids_that_a_folder_cannot_hold_are_refused_with_the_reason() {
        let long = "x".repeat(256);
        for text in ["/a", "a//b", "//", "/", "a//", ".", "..", "a/../b", "./a", "a/.", "a\0b", long.as_str()] {
            assert!(matches!(ItemPath::of("s", &id(text)), Err(RefusalReason::UnrepresentableId(_))), "{text:?}");
        }
        assert!(ItemPath::of("s", &id("...")).is_ok());
        assert!(ItemPath::of("s", &id(&"y".repeat(255))).is_ok());
    }

    #[test]
    fn the_name_in_which_writes_are_prepared_is_reserved_at_the_root_only() {
        assert_eq!(ItemPath::of("", &id(".mill-in-progress/x")), Err(RefusalReason::Reserved));
        assert_eq!(ItemPath::of("", &id(".mill-in-progress")), Err(RefusalReason::Reserved));
        assert!(ItemPath::of("s", &id(".mill-in-progress")).is_ok());
        assert_eq!(Layout::Spaces.directory(&SpaceId::new(IN_PROGRESS).unwrap()), None);
    }
}

//! The calls of all ports, by name.

use std::fmt;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $shape:ident;)*) => {
        /// A call of a port.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum PortCall { $($(#[$doc])* $name,)* }

        impl PortCall {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, as errors give it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What the call consists of, which decides how it can fail in the middle.
            pub(crate) const fn shape(self) -> Shape {
                match self { $(Self::$name => Shape::$shape,)* }
            }
        }
    };
}

/// What a call consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One answer.
    Plain,
    /// Entries that can fail individually.
    Batch,
    /// A stream of pages.
    Pages,
    /// A stream of bytes.
    Bytes,
}

ops! {
    /// `TaskQueue::send`.
    Send = "send", Batch;
    /// `TaskQueue::receive`.
    Receive = "receive", Plain;
    /// `TaskQueue::extend`.
    Extend = "extend", Batch;
    /// `TaskQueue::release`.
    Release = "release", Batch;
    /// `TaskQueue::acknowledge`.
    Acknowledge = "acknowledge", Batch;
    /// `TaskQueue::depth`.
    Depth = "depth", Plain;
    /// `Table::get`.
    GetRow = "get", Plain;
    /// `Table::put`.
    PutRow = "put", Plain;
    /// `Table::put_many`.
    PutRows = "put_many", Batch;
    /// `Table::delete`.
    DeleteRow = "delete", Plain;
    /// `Table::query`.
    Query = "query", Plain;
    /// `SourceStore::spaces`.
    Spaces = "spaces", Plain;
    /// `SourceStore::space`.
    Space = "space", Plain;
    /// `SourceStore::head`.
    Head = "head", Plain;
    /// `SourceStore::open`.
    Open = "open", Bytes;
    /// `SourceStore::places`.
    Places = "places", Plain;
    /// `SourceStore::folds_names`.
    FoldsNames = "folds_names", Plain;
    /// `SourceStore::list`.
    List = "list", Pages;
    /// `DestinationStore::create_space`.
    CreateSpace = "create_space", Plain;
    /// `DeletableStore::remove_empty_space`.
    RemoveEmptySpace = "remove_empty_space", Plain;
    /// `DestinationStore::put`.
    Put = "put", Bytes;
    /// `DestinationStore::server_side_copy`.
    Take = "take", Plain;
    /// `DestinationStore::put_properties`.
    PutProperties = "put_properties", Plain;
    /// `DestinationStore::respell`.
    Respell = "respell", Plain;
    /// `DeletableStore::delete`.
    Delete = "delete", Plain;
}

impl PortCall {
    /// Whether it changes a store.
    pub const fn writes_store(self) -> bool {
        matches!(
            self,
            Self::CreateSpace
                | Self::RemoveEmptySpace
                | Self::Put
                | Self::Take
                | Self::PutProperties
                | Self::Respell
                | Self::Delete
        )
    }
}

impl fmt::Display for PortCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
